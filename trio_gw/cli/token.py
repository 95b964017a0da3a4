"""`trio-gw token`: prints a test token signed with the gateway's key, like those of `/testkey`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from trio_gw.cli.common import load_settings, print_problems, settings_argument
from trio_gw.errors import UnusableError
from trio_gw.guard.certificates import load_pair
from trio_gw.guard.testkey import TestKeys

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument(
        "--scope",
        metavar="NAME",
        action="append",
        default=[],
        help="a scope of the token; may be repeated",
    )
    parser.add_argument(
        "--user", default="admin", help="the token's subject (default: %(default)s)"
    )


def main(options: argparse.Namespace) -> int:
    """Print a token; return 1 if there is no key to sign with."""
    try:
        loaded = load_settings(options)
        print_problems(loaded.problems)
        settings, base = loaded.settings, loaded.base
        if not settings.testkey.enabled:
            print("testkey.enabled is false: this gateway issues no tokens", file=sys.stderr)
            return 1
        pair = load_pair(base / settings.tls.cert, base / settings.tls.key)
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    scope = " ".join(options.scope) or None
    print(TestKeys(settings.testkey, pair).mint(options.user, scope, time.time()))
    return 0
