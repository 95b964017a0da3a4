"""`trio-gw deny`: refuse a caller from now on, end that, or list who is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import aligned
from trio_gw.config.conditions import KINDS
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse

COLUMNS = ("WHAT", "WHICH", "REASON", "FROM")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "condition",
        nargs="?",
        metavar="WHAT=WHICH",
        help="like address=203.0.113.0/24, address=!10.0.0.0/8 or user=mallory; without it, list",
    )
    parser.add_argument("--reason", metavar="TEXT", default="", help="for the log of the gateway")
    parser.add_argument("--remove", action="store_true", help="remove the condition")
    admin_options.arguments(parser)


def main(options: argparse.Namespace) -> int:
    """Change or list; return 0, or 1 if the gateway refuses or does not answer."""
    kind, _, key = (options.condition or "").partition("=")
    if options.condition and (kind not in KINDS or not key):
        kinds = ", ".join(KINDS)
        print(f"trio-gw deny: write WHAT=WHICH; WHAT is one of {kinds}", file=sys.stderr)
        return 2
    invert = kind == "address" and key.startswith("!")
    asked: dict[str, Any] = {"kind": kind, "key": key.removeprefix("!" if invert else "")}
    try:
        with client.AdminClient(options) as gateway:
            if not options.condition:
                return _list(gateway)
            if options.remove:
                query = {**asked, "invert": "true"} if invert else asked
                answer = gateway.ask("DELETE", "/admin/denials", query=query)
            else:
                body = {**asked, "invert": invert, "reason": options.reason}
                headers = {"Content-Type": "application/json"}
                content = msgspec.json.encode(body)
                answer = gateway.ask("POST", "/admin/denials", headers=headers, content=content)
        held = msgspec.json.decode(answer)["in_force"]
    except client.RefusedError as error:
        print(f"trio-gw deny: {escape(str(error))}", file=sys.stderr)
        return 1
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        print(f"trio-gw deny: {options.url}: unexpected answer: {error}", file=sys.stderr)
        return 1
    if held is options.remove:
        print("the file is written, but the gateway has not read it yet", file=sys.stderr)
        return 1
    print(f"{escape(options.condition)} is {'no longer denied' if options.remove else 'denied'}")
    return 0


def _list(gateway: client.AdminClient) -> int:
    found = msgspec.json.decode(gateway.ask("GET", "/admin/denials", query={"limit": "10000"}))
    lines = [COLUMNS]
    for row in found["conditions"]:
        names = f"!{row['names']}" if row["invert"] else row["names"]
        texts = tuple(map(escape, (row["kind"], names, row["reason"], row["source"])))
        lines.append(texts)  # type: ignore[arg-type]
    print(aligned(lines))
    print(f"{found['total']} conditions are in force")
    return 0
