"""`trio-gw version`: prints the version, and whether the relay is compiled."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import trio_gw
from trio_gw import compiled

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")


def main(options: argparse.Namespace) -> int:
    """Print the version; return 0."""
    relay = "compiled" if compiled.in_use() else "pure"
    if options.json:
        about = {
            "version": trio_gw.__version__,
            "relay": relay,
            "python": platform.python_version(),
        }
        print(json.dumps(about))
    else:
        why = "" if compiled.in_use() else f" ({compiled.why_not()})"
        python = platform.python_version()
        print(f"trio-gw {trio_gw.__version__}, Python {python}, relay: {relay}{why}")
    return 0
