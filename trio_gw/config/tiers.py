"""Tiers: named limits per window of time, built in and from `[tiers]`.

Pure values. The settings hold them as written (`TierTable`); `known` converts them to `Tier`s after
`rules.limits` has found no fault. spec: frames §4.2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import structs

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from trio_gw.config.api import ApiProject
    from trio_gw.config.entitlements import PolicyRow

LONGEST = 31 * 86400  # seconds of a window
LONGEST_POLICY = 3660 * 86400  # seconds of a window of a policy
LARGEST = 1 << 38  # events or bytes in one; half of what a counter can hold
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OCTETS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_PERIOD = re.compile(r"([0-9]{1,9}) ?(s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15}) ?(B|KB|MB|GB)?", re.IGNORECASE)


class TierTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tier as written in the settings: `events` or `bytes`, each `per` window of time.

    `burst` is in the unit of the limit. `count` says which directions count: `each` on its
    own, `both` together, only `publish` or only `subscribe`.
    """

    events: int = 0
    bytes: int | str = 0
    per: str = "1m"
    burst: int | str = 0
    on_exceed: str = "drop"
    stop_on_quota: bool = True
    count: str = "each"


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Caps on connections, and the default maximum size of a message; 0 means no limit.

    `pending` and `pending_per_address` are for connections without a request yet; `memory` is for
    all workers together, in addition to the limits of the system. `head` and `target` are the
    maximum sizes of a request head and its target.
    """

    connections: int = 0
    connections_per_api: int = 0
    connections_per_application: int = 0
    connections_per_address: int = 0
    pending: int = 4096
    pending_per_address: int = 512
    memory: int | str = 0
    max_message: int | str = 0
    head: int | str = "60KB"
    target: int | str = "32KB"


Action = Literal["drop", "close", "pause"]
Count = Literal["each", "both", "publish", "subscribe"]
ACTIONS: tuple[Action, ...] = ("drop", "close", "pause")
COUNTS: tuple[Count, ...] = ("each", "both", "publish", "subscribe")


class Tier(msgspec.Struct, frozen=True):
    """A named limit: `limit` events or, with `octets`, bytes, in windows of `per` seconds.

    A `limit` of 0 is none.
    """

    name: str
    limit: int = 0
    octets: bool = False
    per: int = 60
    burst: int = 0
    on_exceed: Action = "drop"
    stop_on_quota: bool = True
    count: Count = "each"

    @property
    def limits(self) -> bool:
        """Return whether it limits anything."""
        return self.limit > 0 and self.stop_on_quota

    def __str__(self) -> str:
        if not self.limit:
            return "unlimited"
        burst = f" and {self.burst} in a burst" if self.burst else ""
        unit = "bytes" if self.octets else "events"
        return f"{self.limit} {unit} per {spoken(self.per)}{burst}"


def _events(name: str, limit: int, per: int) -> Tier:
    return Tier(name, limit, per=per)


BUILTIN: dict[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier("Unlimited"),
        Tier("Unauthenticated"),
        Tier("AsyncUnlimited"),
        _events("AsyncGold", 50_000, 86400),
        _events("AsyncSilver", 25_000, 86400),
        _events("AsyncBronze", 5_000, 86400),
        _events("50KPerMin", 50_000, 60),
        _events("20KPerMin", 20_000, 60),
        _events("10KPerMin", 10_000, 60),
        _events("50PerMin", 50, 60),
        _events("20PerMin", 20, 60),
        _events("10PerMin", 10, 60),
    )
}
"""The names in projects and tokens of API Manager; `[tiers]` may replace each."""


def spoken(seconds: int) -> str:
    """Write a period in the form of the settings."""
    for unit in ("d", "h", "m"):
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def period(text: str) -> int:
    """Read `30s`, `1m`, `2h` or `1d` as seconds; raises ValueError."""
    found = _PERIOD.fullmatch(text.strip())
    if not found or not 1 <= (seconds := int(found[1]) * _SECONDS[found[2]]) <= LONGEST:
        raise ValueError(text)
    return seconds


def size(value: int | str) -> int:
    """Read a number of bytes, or `3KB` (3072 bytes), `2 MB`; raises ValueError."""
    if isinstance(value, str):
        if not (found := _SIZE.fullmatch(value.strip())):
            raise ValueError(value)
        value = int(found[1]) * _OCTETS[(found[2] or "B").upper()]
    if not 0 <= value <= LARGEST:
        raise ValueError(value)
    return value


def known(tables: Mapping[str, TierTable]) -> dict[str, Tier]:
    """Make every tier there is, by name: the built-in ones, and those of the settings."""
    return BUILTIN | {name: _tier(name, table) for name, table in tables.items()}


def _tier(name: str, table: TierTable) -> Tier:
    octets = size(table.bytes)
    return Tier(
        name,
        limit=octets or table.events,
        octets=bool(octets),
        per=period(table.per),
        burst=size(table.burst),
        on_exceed=next(one for one in ACTIONS if one == table.on_exceed),
        stop_on_quota=table.stop_on_quota,
        count=next(one for one in COUNTS if one == table.count),
    )


def of_policy(row: PolicyRow, known: Tier | None) -> Tier | None:
    """Make the tier of a policy of a control plane.

    `known` is the tier of the settings with its name. It says what happens beyond the limit and
    which directions count, and has the limit if the policy has none. None if neither has one.
    """
    base = Tier(row.name) if known is None else known
    if row.limit <= 0 or row.per <= 0:
        if known is None:
            return None
        return structs.replace(known, stop_on_quota=known.stop_on_quota and row.stop_on_quota)
    return structs.replace(
        base,
        limit=min(row.limit, LARGEST),
        octets=row.quota == "bandwidthVolume",
        per=min(row.per, LONGEST_POLICY),
        burst=0,
        stop_on_quota=row.stop_on_quota,
    )


def unknown(projects: Iterable[ApiProject], names: Collection[str]) -> Iterator[Problem]:
    """Warn about unknown tiers in projects: they limit nothing."""
    for project in projects:
        places = [(project.tier, "data.apiThrottlingPolicy")]
        places += [(topic.tier, f"topic {topic.name[:80]}") for topic in project.topics]
        for name, place in places:
            if name and name not in names:
                what = f"{place}: the tier {name[:80]!r} is not known here, so nothing is limited"
                hint = f'define it in gateway.toml: [tiers."{name[:80]}"] with events and per'
                yield Problem(project.folder, 0, 0, what, hint, "warning")
