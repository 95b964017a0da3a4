"""`trio-gw revisions`: lists what was deployed of an API, and by whom."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from trio_gw.cli import admin_options, client
from trio_gw.cli.common import aligned, named_api
from trio_gw.escaping import escape

if TYPE_CHECKING:
    import argparse

COLUMNS = ("REVISION", "LIVE ON", "WHEN", "BY", "DIGEST", "NOTE")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    admin_options.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("api", metavar="NAME:VERSION", help="the API, as `trio-gw apis` lists it")


def main(options: argparse.Namespace) -> int:
    """List the revisions; return 0, or 1 if the gateway refuses."""
    if (query := named_api(options.api, "revisions")) is None:
        return 2
    try:
        with client.AdminClient(options) as gateway:
            body = gateway.ask("GET", f"{client.BASE}/apis/revisions", query=query)
    except client.RefusedError as error:
        print(f"trio-gw revisions: {escape(str(error))}", file=sys.stderr)
        return 1
    rows: list[dict[str, Any]] = json.loads(body)["list"]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    lines = [COLUMNS]
    for row in rows:
        when = "-" if row["at"] is None else time.strftime("%F %T", time.localtime(row["at"]))
        live = ", ".join(row["live"]) or "-"
        lines.append(
            (row["revision"], live, when, row["user"] or "-", row["digest"][:10], row["note"])
        )
    print(aligned(lines))
    return 0
