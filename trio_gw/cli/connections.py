"""`trio-gw connections`: list the open connections of a running gateway, or close some."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import aligned
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse

COLUMNS = ("CLIENT", "API", "REQUEST", "USER", "SECONDS", "IN", "OUT", "ID")
LISTED = 100  # connections
CODE, REASON = 1008, "closed by an administrator"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "action", nargs="?", choices=("list", "close"), default="list", help="default: list"
    )
    parser.add_argument(
        "--match",
        metavar="FILTER",
        default="",
        help="a text, or terms like api:Chat user:alice address:10.0.0.0/8",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        default=LISTED,
        help=f"list at most so many (default: {LISTED})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--code", metavar="CODE", type=int, default=CODE, help=f"close code (default: {CODE})"
    )
    parser.add_argument("--reason", metavar="TEXT", default=REASON, help="what the clients see")
    parser.add_argument(
        "--expect",
        metavar="N",
        type=int,
        help="close only if so many match (default: ask, after counting)",
    )
    admin_options.arguments(parser)


def main(options: argparse.Namespace) -> int:
    """List or close; return 0, or 1 if the gateway refuses or does not answer."""
    if options.action == "close" and not options.match:
        print("trio-gw connections close: --match says which; nothing was closed", file=sys.stderr)
        return 2
    try:
        with client.AdminClient(options) as gateway:
            return (
                _close(gateway, options) if options.action == "close" else _list(gateway, options)
            )
    except client.RefusedError as error:
        print(f"trio-gw connections: {escape(str(error))}", file=sys.stderr)
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        print(f"trio-gw connections: {options.url}: unexpected answer: {error}", file=sys.stderr)
    return 1


def _list(gateway: client.AdminClient, options: argparse.Namespace) -> int:
    query = {"limit": str(options.limit), "match": options.match}
    found = msgspec.json.decode(gateway.ask("GET", "/admin/connections", query=query))
    rows: list[dict[str, Any]] = found["connections"]
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    lines = [COLUMNS]
    for row in rows:
        who = row["address"] or row["peer"], row["api"] or "", row["request"], row["subject"] or ""
        counts = (str(row[way]["messages"]) for way in ("publish", "subscribe"))
        texts = (*who, f"{row['seconds']:.0f}", *counts, row["id"])
        lines.append(tuple(map(escape, texts)))  # type: ignore[arg-type]
    print(aligned(lines))
    print(f"{len(rows)} shown, {found['matching']} match, {found['total']} are open")
    return 0


def _close(gateway: client.AdminClient, options: argparse.Namespace) -> int:
    expect = options.expect
    asked: dict[str, Any] = {"match": options.match, "code": options.code}
    asked["reason"] = options.reason
    if expect is None:
        expect = _post(gateway, {**asked, "dry_run": True})["matching"]
        if not expect:
            print("no open connection matches")
            return 0
        if not sys.stdin.isatty():
            hint = f"{expect} connections match; close them with --expect {expect}"
            print(f"trio-gw connections close: {hint}", file=sys.stderr)
            return 1
        if input(f"Close {expect} connections? [y/N] ").strip().lower() not in ("y", "yes"):
            return 1
    print(f"{_post(gateway, {**asked, 'expect': expect})['closed']} connections are closed")
    return 0


def _post(gateway: client.AdminClient, body: dict[str, Any]) -> dict[str, Any]:
    content = msgspec.json.encode(body)
    headers = {"Content-Type": "application/json"}
    answer = gateway.ask("POST", "/admin/connections/close", headers=headers, content=content)
    return msgspec.json.decode(answer, type=dict[str, Any])
