"""`trio-gw tiers`: lists the tiers that projects and tokens may name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.cli.common import aligned, load_settings, print_problems, settings_argument
from trio_gw.config.tiers import Tier, known, spoken
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    import argparse

COLUMNS = ("NAME", "LIMIT", "PER", "BURST", "COUNTS", "ON EXCEED", "FROM")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(options: argparse.Namespace) -> int:
    """Print the tiers; return 1 if the settings have errors."""
    try:
        loaded = load_settings(options)
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    print_problems(loaded.problems)
    own = loaded.settings.tiers
    rows = [(tier, "settings" if name in own else "built in") for name, tier in known(own).items()]
    if options.json:
        print(json.dumps([_object(*row) for row in rows], indent=2))
    else:
        print(aligned([COLUMNS, *(_line(*row) for row in rows)]))
    return 0


def _object(tier: Tier, origin: str) -> dict[str, Any]:
    found = msgspec.structs.asdict(tier)
    unit = "bytes" if found.pop("octets") else "events"
    return {**found, "unit": unit, "from": origin}


def _line(tier: Tier, origin: str) -> tuple[str, ...]:
    if not tier.limit:
        return (tier.name, "unlimited", "-", "-", "-", "-", origin)
    limit = f"{tier.limit} {'bytes' if tier.octets else 'events'}"
    action = tier.on_exceed if tier.stop_on_quota else "nothing"
    burst = str(tier.burst or "-")
    return (tier.name, limit, spoken(tier.per), burst, tier.count, action, origin)
