"""`trio-gw lifecycle`: shows the state of an API of a running gateway, or sets it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import named_api
from trio_gw.config.lifecycle import STATES
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    parser.add_argument(
        "--successor", default="", metavar="NAME:VERSION", help="of a deprecated API"
    )
    parser.add_argument("--sunset", default="", metavar="DATE", help="when a deprecated API ends")
    parser.add_argument("--yes", action="store_true", help="do not ask before an API is retired")
    parser.add_argument("api", metavar="NAME:VERSION", help="the API, as `trio-gw apis` lists it")
    parser.add_argument(
        "state",
        metavar="STATE",
        nargs="?",
        type=str.upper,
        choices=STATES,
        help=f"the state to set: {', '.join(STATES)} (default: show the current one)",
    )


def main(options: argparse.Namespace) -> int:
    """Show or set the state; return 0, or 1 if the gateway refuses."""
    if (query := named_api(options.api, "lifecycle")) is None:
        return 2
    try:
        with client.AdminClient(options) as gateway:
            method = "GET"
            if options.state:
                if not _confirmed(options):
                    print("trio-gw lifecycle: not retired", file=sys.stderr)
                    return 1
                method = "PUT"
                query |= {"state": options.state, "successor": options.successor}
                query |= {"sunset": options.sunset, "confirm": query["apiName"]}
            body = gateway.ask(method, f"{client.BASE}/apis/lifecycle", query=query)
    except client.RefusedError as error:
        print(f"trio-gw lifecycle: {escape(str(error))}", file=sys.stderr)
        return 1
    found: dict[str, Any] = json.loads(body)
    told = "" if found["acts"] else ", as its file says (that does not act)"
    by = f" by {found['user']}" if found["user"] else ""
    print(escape(f"{found['api']}: {found['state']}{by}{told}"))
    print(f"next: {', '.join(found['steps']) or 'nothing'}")
    return 0


def _confirmed(options: argparse.Namespace) -> bool:
    """Ask whether an API should be retired, if there is somebody to ask."""
    if options.state != "RETIRED" or options.yes:
        return True
    if not sys.stdin.isatty():
        return False
    name: str = options.api.rpartition(":")[0]
    return (
        input(f"Retiring is final. Type {escape(name)} to retire {escape(options.api)}: ") == name
    )
