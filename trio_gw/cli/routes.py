"""`trio-gw routes`: lists the route table in matching order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trio_gw.cli.common import aligned, load_settings, print_problems, settings_argument
from trio_gw.config.tiers import known
from trio_gw.errors import UnusableError, has_errors
from trio_gw.feed.compile import compile_snapshots
from trio_gw.feed.offline import load_offline
from trio_gw.routing.export import route_rows

if TYPE_CHECKING:
    import argparse

    from trio_gw.routing.table import RouteTable

COLUMNS = ("HOST", "PATH", "API", "SECURITY", "PRODUCTION", "SANDBOX")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(options: argparse.Namespace) -> int:
    """Print the table; return 1 if a project cannot be served."""
    try:
        loaded = load_settings(options)
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    settings = loaded.settings
    found = load_offline(settings, loaded.base)
    problems = found.problems
    table, _, conflicts, _ = compile_snapshots(
        found.snapshots,
        settings.known_environments,
        strict_vhosts=settings.strict_vhosts,
        known_tiers=known(settings.tiers),
        origins=found.origins,
        held=found.held,
    )
    print_problems([*loaded.problems, *problems, *conflicts])
    print(as_json(table) if options.json else as_text(table))
    return 1 if has_errors([*problems, *conflicts]) else 0


def as_json(table: RouteTable) -> str:
    """List the routes as JSON, one object each."""
    return json.dumps(route_rows(table), indent=2)


def as_text(table: RouteTable) -> str:
    """List the routes as aligned columns."""
    lines = [COLUMNS]
    for row in route_rows(table):
        security = "token" if row["secured"] else "open"
        if row["secured"] and row["scopes"]:
            security = "scope " + " or ".join(row["scopes"])
        backends = (" ".join(row[kind]) or "-" for kind in ("production", "sandbox"))
        lines.append((row["host"], row["path"], row["api"], security, *backends))
    return aligned(lines)
