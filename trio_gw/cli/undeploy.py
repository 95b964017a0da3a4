"""`trio-gw undeploy`: removes a deployed API from a running gateway."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import print_problems
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    parser.add_argument("--vhost", default="", help="from this host only")
    parser.add_argument(
        "--environment",
        metavar="NAME",
        action="append",
        default=[],
        help="from this environment only; may be repeated",
    )
    parser.add_argument("api", metavar="NAME:VERSION", help="the API, as `trio-gw apis` lists it")


def main(options: argparse.Namespace) -> int:
    """Undeploy; return 0 if the API is removed, else 1."""
    name, colon, version = options.api.rpartition(":")
    if not (colon and name and version):
        print("trio-gw undeploy: name the API as NAME:VERSION", file=sys.stderr)
        return 2
    query = {"apiName": name, "version": version, "vhost": options.vhost}
    query["environments"] = ":".join(options.environment)
    try:
        with client.AdminClient(options) as gateway:
            gateway.ask("DELETE", f"{client.BASE}/apis", query=query)
    except client.RefusedError as error:
        print_problems(error.problems)
        print(f"trio-gw undeploy: {escape(str(error))}", file=sys.stderr)
        return 1
    print(f"undeployed: {escape(options.api)}")
    return 0
