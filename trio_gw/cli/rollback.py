"""`trio-gw rollback`: deploys an old revision of an API anew."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import named_api, print_problems
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    parser.add_argument("--note", default="", help="what is kept with the new revision")
    parser.add_argument("api", metavar="NAME:VERSION", help="the API, as `trio-gw apis` lists it")
    parser.add_argument("revision", metavar="REVISION", help="as `trio-gw revisions` lists it: r7")


def main(options: argparse.Namespace) -> int:
    """Roll back; return 0 if the revision is served now, else 1."""
    if (query := named_api(options.api, "rollback")) is None:
        return 2
    query |= {"revision": options.revision.removeprefix("r"), "note": options.note}
    try:
        with client.AdminClient(options) as gateway:
            body = gateway.ask("POST", f"{client.BASE}/apis/rollback", query=query)
    except client.RefusedError as error:
        print_problems(error.problems)
        print(f"trio-gw rollback: {escape(str(error))}", file=sys.stderr)
        return 1
    found = json.loads(body)
    print(escape(f"deployed: {found['api']} as {found['revision']}, {found['note']}"))
    return 0
