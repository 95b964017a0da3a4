"""`trio-gw top`: shows what a running gateway does, live, or once as text or JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.cli import admin_options, client
from trio_gw.cli.top import fetch
from trio_gw.escaping import escape, escape_json

if TYPE_CHECKING:
    import argparse

SHORTEST, LONGEST = 0.5, 60.0  # seconds between two updates


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=2.0,
        help=f"update so often ({SHORTEST} to {LONGEST:.0f}, default: 2)",
    )
    parser.add_argument("--once", action="store_true", help="print one update as text")
    parser.add_argument("--json", action="store_true", help="print one update as JSON")


def main(options: argparse.Namespace) -> int:
    """Show the view; return 0, or 1 if the gateway does not answer."""
    if not SHORTEST <= options.interval <= LONGEST:
        print(f"trio-gw top: --interval is {SHORTEST} to {LONGEST:.0f} seconds", file=sys.stderr)
        return 2
    try:
        if options.json:
            return trio.run(_json, options)
        from trio_gw.cli.top import live

        return trio.run(live.once if options.once else live.show, options)
    except client.RefusedError as error:
        print(f"trio-gw top: {escape(str(error))}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        print("trio-gw top: needs rich: pip install 'trio-gw[top]'", file=sys.stderr)
    return 1


async def _json(options: argparse.Namespace) -> int:
    async with client.AsyncAdminClient(options) as watch:
        picture = await fetch.compared(watch)
    print(msgspec.json.format(escape_json(msgspec.json.encode(picture)), indent=2).decode())
    return 0
