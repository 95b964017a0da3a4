"""Rate limits of sessions: which tiers apply, and which cells count. No clock.

A *level* names a tier and a key; all sessions of that key share a counter (`counter`). Its cells in
the shared table are its own (`key_cells`). Tiers with windows of different lengths have separate
blocks of cells (`window_blocks`), because they would take each other's counts for old ones.

The tiers of the settings never change. The *policies* of a control plane are tiers of one level
each; they go before those of the settings, and may change at any time.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from trio_gw.guard.counter import CounterTable, WindowCounter
from trio_gw.guard.key_cells import KeyCells
from trio_gw.guard.limiter import DirectionLimiter
from trio_gw.guard.window_blocks import WindowBlocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trio_gw.config.tiers import Tier
    from trio_gw.guard.decisions import Decided
    from trio_gw.supervision.shared_memory import Counters

MOST_FULL = 1000  # counters that are kept although no session uses them


class Level(NamedTuple):
    """What is limited: a name for people, the name of the tier, and the key that is counted."""

    name: str
    tier: str
    key: str


class FullLimit(NamedTuple):
    """A limit that is reached: the level and its key, and until when (epoch seconds).

    `way` is what the tier counts: `publish`, `subscribe`, `both`, or with a count for each
    direction, `each` and `back`.
    """

    level: str
    key: str
    way: str
    tier: Tier
    until: float


class SessionLimiters(NamedTuple):
    """Both directions of a session. `drops` tells whether messages may be dropped.

    With `suspendable` decisions may suspend both, also if nothing is counted.
    """

    publish: DirectionLimiter
    subscribe: DirectionLimiter
    drops: bool
    suspendable: bool = False

    def suspend(self, decided: tuple[Decided, ...]) -> None:
        """Let no message pass until all these decisions are over."""
        self.publish.suspend(decided)
        self.subscribe.suspend(decided)

    def add_listeners(
        self,
        publish: Callable[[WindowCounter | Decided, int], None],
        subscribe: Callable[[WindowCounter | Decided, int], None],
    ) -> None:
        """Call these for refused messages, with what refused them and their number."""
        self.publish.listeners += (publish,)
        self.subscribe.listeners += (subscribe,)


class RateLimits:
    """All counters of a process. A counter lives as long as a session uses it; its count stays.

    The counters that were reported last are kept, so that the next session does not report them
    again.
    """

    def __init__(
        self,
        tiers: Mapping[str, Tier],
        notify: Callable[[WindowCounter], None],
        counters: Counters,
        index: int = 0,
        *,
        policies: bool = False,
    ) -> None:
        self.tiers = tiers
        self._policies: Mapping[tuple[str, str], Tier] = {}
        self._notify = notify
        self._table = CounterTable(counters, index)
        self._counters: weakref.WeakValueDictionary[int, WindowCounter]  # by fingerprint
        self._counters = weakref.WeakValueDictionary()
        self._blocks = WindowBlocks(self._table, tiers, policies=policies)
        self._keys: dict[int, KeyCells] = {}
        self._first_full: deque[WindowCounter] = deque(maxlen=MOST_FULL)
        self._names: dict[int, tuple[str, str]] = {}  # key and way, by fingerprint
        self._most_names = MOST_FULL

    def __len__(self) -> int:
        """Return the number of counters in use."""
        return len(self._counters)

    @property
    def shared(self) -> int:
        """How often a key had to share its cells since the start: the table was full."""
        return sum(keys.shared for keys in self._keys.values())

    def full(self, now: float) -> list[FullLimit]:
        """Return the limits that refused a message of this process in the current window."""
        found = []
        for counter in set(self._first_full):
            window = int(now // counter.per)
            if counter.notified == window:
                key, way = self._names.get(counter.fingerprint, ("", ""))
                until = (window + 1) * counter.per
                found.append(FullLimit(counter.level, key, way, counter.tier, until))
        return found

    def limiters(
        self, levels: Iterable[Level], now: float, *, suspendable: bool = False
    ) -> SessionLimiters | None:
        """Make the limiters of a session; None without limits. Levels are asked in order.

        With `suspendable` they are made also without limits, and messages may be dropped.
        """
        publish: list[WindowCounter] = []
        subscribe: list[WindowCounter] = []
        for level in levels:
            tier = self.tier(level.name, level.tier)
            if tier is None or not tier.limits:
                continue
            if tier.count in ("both", "publish", "each"):
                publish.append(self._counter(level, tier, tier.count, now))
            if tier.count in ("both", "subscribe", "each"):
                other = "back" if tier.count == "each" else tier.count
                subscribe.append(self._counter(level, tier, other, now))
        if not publish and not subscribe and not suspendable:
            return None
        drops = any(counter.tier.on_exceed == "drop" for counter in (*publish, *subscribe))
        both = self._limiter(publish), self._limiter(subscribe)
        return SessionLimiters(*both, drops or suspendable, suspendable)

    def tier(self, level: str, name: str) -> Tier | None:
        """Return the tier of this name at a level; None if there is none."""
        return self._policies.get((level, name)) or self.tiers.get(name)

    def use(self, policies: Iterable[tuple[str, Tier]]) -> None:
        """Replace the policies, which are tiers with the name of their level.

        A changed limit counts at once, also for sessions that use it. With a window of another
        length, or another unit, it counts for new sessions.
        """
        self._policies = {(level, tier.name): self._fitting(tier) for level, tier in policies}
        for counter in list(self._counters.values()):
            tier = self.tier(counter.level, counter.tier.name)
            if tier is not None and tier != counter.tier and _kind(tier) == _kind(counter.tier):
                counter.change(tier)

    def _fitting(self, tier: Tier) -> Tier:
        """Return a tier whose windows can be counted: with the same rate, if not the same."""
        if not tier.limits or self._blocks.find(tier.per) is not None:
            return tier
        per = self._blocks.nearest(tier.per)
        return structs.replace(tier, per=per, limit=max(1, round(tier.limit * per / tier.per)))

    def _limiter(self, counters: list[WindowCounter]) -> DirectionLimiter:
        return DirectionLimiter(tuple(counters), self._report, self._table)

    def _report(self, counter: WindowCounter) -> None:
        self._first_full.append(counter)
        self._notify(counter)

    def _counter(self, level: Level, tier: Tier, direction: str, now: float) -> WindowCounter:
        name = level.name, tier.name, direction, level.key
        # Two policies of a name, one after the other, may differ in what they count.
        fingerprint = _fingerprint(*name, str(tier.per), "bytes" if tier.octets else "events")
        if (counter := self._counters.get(fingerprint)) is None:
            keys = self._cells(tier.per)
            counter = WindowCounter(level.name, tier, self._table, keys, fingerprint, now)
            self._counters[fingerprint] = counter
            self._keep_name(fingerprint, level.key, direction)
        return counter

    def _keep_name(self, fingerprint: int, key: str, way: str) -> None:
        """Remember what a counter counts; forget now and then those that are gone."""
        if len(self._names) >= self._most_names:
            names = self._names
            self._names = {one: names[one] for one in self._counters if one in names}
            self._most_names = max(MOST_FULL, 2 * len(self._names))
        self._names[fingerprint] = key, way

    def _cells(self, per: int) -> KeyCells:
        if (found := self._keys.get(per)) is None:
            block = self._blocks.find(per)
            assert block is not None, "of tiers whose windows can be counted"
            in_use = self._counters.__contains__
            found = self._keys[per] = KeyCells(self._table, block, per, in_use)
        return found


def _kind(tier: Tier) -> tuple[int, bool, str]:
    """Return what cannot change while a counter counts."""
    return tier.per, tier.octets, tier.count


def _fingerprint(*name: str) -> int:
    """Return 63 bits of a hash: two of 65,536 keys have the same once in four billion cases."""
    text = "\0".join(name).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
