"""`trio-gw apis`: list what a running gateway serves, or the topics of one API."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import msgspec

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import aligned
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse

COLUMNS = ("API", "TYPE", "CONTEXT", "ENVIRONMENTS", "HOST")


class _Api(msgspec.Struct):
    api_name: str = msgspec.field(default="", name="apiName")
    version: str = ""
    api_type: str = msgspec.field(default="", name="apiType")
    context: str = ""
    environments: list[str] = msgspec.field(default_factory=list, name="gateway-envs")
    vhost: str = ""


class _List(msgspec.Struct):
    list: tuple[_Api, ...] | None = None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--topics", metavar="NAME:VERSION", help="list the topics of this API instead"
    )
    parser.add_argument("--topic", metavar="TOPIC", help="with --topics: describe this topic")
    parser.add_argument("--host", metavar="HOST", help="with --topics: the API on this host")


def main(options: argparse.Namespace) -> int:
    """List the APIs; return 0, or 1 if the gateway does not answer."""
    if options.topics:
        from trio_gw.cli.topics import show_topics

        return show_topics(options)
    try:
        with client.AdminClient(options) as gateway:
            body = gateway.ask("GET", f"{client.BASE}/apis")
        found = msgspec.json.decode(body, type=_List).list or ()
    except client.RefusedError as error:
        print(f"trio-gw apis: {escape(str(error))}", file=sys.stderr)
        return 1
    except (msgspec.DecodeError, RecursionError) as error:
        print(f"trio-gw apis: {options.url}: no list of APIs: {error}", file=sys.stderr)
        return 1
    ordered = sorted(found, key=lambda one: (one.api_name, one.version, one.vhost))
    if options.json:
        print(json.dumps([msgspec.to_builtins(one) for one in ordered], indent=2))
        return 0
    lines = [COLUMNS]
    for one in ordered:
        title, names = f"{one.api_name}:{one.version}", ", ".join(one.environments)
        lines.append((title, one.api_type, one.context, names, one.vhost))
    print(aligned(lines))
    return 0
