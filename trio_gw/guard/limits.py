"""How much may pass: windows, quotas, and the gate of a session. No clock: `now` is a parameter.

A *quota* is one key's use of a tier: so many events or bytes in each window. Windows are fixed,
aligned to the epoch, so all processes agree on them. What was used is counted in a *ledger* of
integers that all processes share: each writes to its own column and reads all.

A cell of the ledger holds the number of a window and the count in it in one integer, so nothing
is ever cleared: a count of an older window is none. Cells are found by a hash, so the table never
grows; keys that meet in one cell share it, which can only count too much. Tiers of different
windows have blocks of their own, for they would take each other's counts for old ones. Two cells
belong to a key, for odd and even windows: a burst depends on what the window before it used.

One process counts exactly. Of several, each may let one more message pass that it saw room for
in the same instant: at most the limit, plus one message for each further process.
"""

from __future__ import annotations

import hashlib
import weakref
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.counters import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trio_gw.config.tiers import Action, Tier
    from trio_gw.counters import Counters

CELLS = 1 << 16  # keys of one period without clashes, at best; a pair of integers each
_COUNT_BITS, _STAMP_BITS = 39, 24  # together the 63 bits of a signed integer that has no sign
_COUNT = (1 << _COUNT_BITS) - 1
_STAMP = (1 << _STAMP_BITS) - 1


class Level(NamedTuple):
    """What is limited: its name for people, the name of its tier, and the key that is counted."""

    name: str
    tier: str
    key: str


class Shut(NamedTuple):
    """A refusal to let a message pass: until when (epoch seconds), what to do, and why."""

    until: float
    action: Action
    reason: str


class Ledger:
    """The counts of all keys, as seen by the process with this `index`."""

    def __init__(self, counters: Counters, index: int) -> None:
        self._row = counters.row
        self._own = counters.column(index)
        self._alone = counters.processes == 1

    def used(self, cell: int, window: int) -> int:
        """Return what all processes have counted in a window."""
        stamp = window & _STAMP
        if self._alone:
            value = self._own[cell]
            return value & _COUNT if value >> _COUNT_BITS == stamp else 0
        return sum(value & _COUNT for value in self._row(cell) if value >> _COUNT_BITS == stamp)

    def add(self, cell: int, window: int, amount: int) -> None:
        """Count in a window; a count that is full stays full."""
        start = (window & _STAMP) << _COUNT_BITS
        value = self._own[cell]
        count = value & _COUNT if value >> _COUNT_BITS == window & _STAMP else 0
        self._own[cell] = start | min(count + amount, _COUNT)


class Quota:
    """One key's use of a tier; shared by all sessions of that key in this process."""

    __slots__ = ("__weakref__", "_cell", "_ledger", "level", "octets", "per", "reason", "tier",
                 "told")  # fmt: skip

    def __init__(self, level: str, tier: Tier, ledger: Ledger, cell: int) -> None:
        self.level = level
        self.tier = tier
        self.per = tier.per
        self.octets = tier.octets
        self.reason = f"{level} limit {tier.name} exceeded"
        self.told = -1  # the last window whose end of room was told
        self._ledger = ledger
        self._cell = cell

    def has_room(self, now: float) -> bool:
        """Tell whether one more message may pass; the first to reach a limit in bytes may."""
        window = int(now // self.per)
        odd, tier = window & 1, self.tier
        limit = tier.limit
        if tier.burst:
            before = self._ledger.used(self._cell + 1 - odd, window - 1)
            limit += max(0, tier.burst - max(0, before - limit))
        return self._ledger.used(self._cell + odd, window) < limit

    def charge(self, amount: int, now: float) -> None:
        """Count what passes."""
        window = int(now // self.per)
        self._ledger.add(self._cell + (window & 1), window, amount)

    def shut(self, now: float) -> Shut:
        """Say until when there is no room."""
        window = int(now // self.per)
        return Shut((window + 1) * self.per, self.tier.on_exceed, self.reason)


class Gate:
    """One direction of a session. Its quotas are asked in order; `tell` hears of a limit once.

    Each of `heard` hears of every message that does not pass as it came, once for each quota that
    had no room for it: a message that waits is asked about again.
    """

    __slots__ = ("_quotas", "_shut", "_tell", "heard")

    def __init__(self, quotas: tuple[Quota, ...], tell: Callable[[Quota], None]) -> None:
        self.heard: tuple[Callable[[Quota], None], ...] = ()
        self._quotas = quotas
        self._tell = tell
        self._shut: Quota | None = None  # the last message waits, or ends its connection

    def take(self, octets: int, now: float) -> Shut | None:
        """Let a message pass, and count it; or say why not, and count nothing.

        `octets` are those of its first frame, which is all that is known of it so far.
        """
        for quota in self._quotas:
            if not quota.has_room(now):
                window = int(now // quota.per)
                if quota.told != window:
                    quota.told = window
                    self._tell(quota)
                if quota is not self._shut:
                    for hear in self.heard:
                        hear(quota)
                self._shut = None if quota.tier.on_exceed == "drop" else quota
                return quota.shut(now)
        self._shut = None
        for quota in self._quotas:
            quota.charge(octets if quota.octets else 1, now)
        return None

    def add(self, octets: int, now: float) -> None:
        """Count a further frame of a message that was let pass."""
        for quota in self._quotas:
            if quota.octets:
                quota.charge(octets, now)


class Gates(NamedTuple):
    """Both directions of a session. `drops` tells whether messages may vanish on the way."""

    publish: Gate
    subscribe: Gate
    drops: bool

    def hear(self, publish: Callable[[Quota], None], subscribe: Callable[[Quota], None]) -> None:
        """Let these hear of messages that do not pass as they came."""
        self.publish.heard += (publish,)
        self.subscribe.heard += (subscribe,)


class Limits:
    """All quotas of a process. Quotas live as long as some session uses them; counts stay."""

    def __init__(
        self,
        tiers: Mapping[str, Tier],
        tell: Callable[[Quota], None],
        counters: Counters,
        index: int = 0,
    ) -> None:
        self.tiers = tiers
        self._tell = tell
        self._periods = _periods(tiers)
        self._ledger = Ledger(counters, index)
        self._quotas: weakref.WeakValueDictionary[tuple[str, ...], Quota]
        self._quotas = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        """Count the quotas in use."""
        return len(self._quotas)

    def gates(self, levels: Iterable[Level]) -> Gates | None:
        """Make the gates of a session, None if nothing limits it. Levels are asked in order."""
        publish: list[Quota] = []
        subscribe: list[Quota] = []
        for level in levels:
            tier = self.tiers.get(level.tier)
            if tier is None or not tier.limits:
                continue
            if tier.count in ("both", "publish", "each"):
                publish.append(self._quota(level, tier, tier.count))
            if tier.count in ("both", "subscribe", "each"):
                other = "back" if tier.count == "each" else tier.count
                subscribe.append(self._quota(level, tier, other))
        if not publish and not subscribe:
            return None
        drops = any(quota.tier.on_exceed == "drop" for quota in (*publish, *subscribe))
        return Gates(Gate(tuple(publish), self._tell), Gate(tuple(subscribe), self._tell), drops)

    def _quota(self, level: Level, tier: Tier, direction: str) -> Quota:
        name = (level.name, tier.name, direction, level.key)
        if (quota := self._quotas.get(name)) is None:
            cell = _hash(name) % CELLS + self._periods.index(tier.per) * CELLS
            quota = self._quotas[name] = Quota(level.name, tier, self._ledger, 2 * cell)
        return quota


def width(tiers: Mapping[str, Tier]) -> int:
    """Say how many integers a process needs to count by these tiers."""
    return max(len(Slot), 2 * CELLS * len(_periods(tiers)))


def _periods(tiers: Mapping[str, Tier]) -> list[int]:
    return sorted({tier.per for tier in tiers.values() if tier.limits})


def _hash(name: tuple[str, ...]) -> int:
    text = "\0".join(name).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
