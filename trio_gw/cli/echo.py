"""`trio-gw echo`: runs the embedded echo backend alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

from trio_gw import echo
from trio_gw.cli.common import print_problems, problems_in
from trio_gw.config.addresses import parse_address
from trio_gw.errors import UnusableError
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="localhost:2360",
        help="where to listen (default: %(default)s; port 0 picks a free one)",
    )


def main(options: argparse.Namespace) -> int:
    """Echo until Ctrl-C."""
    try:
        host, port = parse_address(options.listen)
    except ValueError as error:
        print(f"trio-gw echo: --listen: {error}", file=sys.stderr)
        return 2
    logs.configure()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(echo.serve, host, port)
            print(f"echo backend on ws://{host or '*'}:{bound}", flush=True)

    code = 0
    try:
        trio.run(serve)
    except* UnusableError as group:
        print_problems(problems_in(group))
        code = 1
    except* KeyboardInterrupt:
        pass
    return code
