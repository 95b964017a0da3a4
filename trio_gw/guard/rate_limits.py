"""Rate limits of sessions: which tiers apply, and which cells count. No clock.

A *level* names a tier and a key; all sessions of that key share a counter (`counter`). Its cells in
the shared table are its own (`key_cells`). Tiers with windows of different lengths have separate
blocks of cells, because they would take each other's counts for old ones.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard.counter import CounterTable, WindowCounter
from trio_gw.guard.key_cells import KeyCells, block_size
from trio_gw.guard.limiter import DirectionLimiter
from trio_gw.supervision.shared_memory import Slot

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
    ) -> None:
        self.tiers = tiers
        self._notify = notify
        self._table = CounterTable(counters, index)
        self._counters: weakref.WeakValueDictionary[int, WindowCounter]  # by fingerprint
        self._counters = weakref.WeakValueDictionary()
        self._keys = {
            per: KeyCells(self._table, at * block_size(), per, self._counters.__contains__)
            for at, per in enumerate(_periods(tiers))
        }
        self._first_full: deque[WindowCounter] = deque(maxlen=MOST_FULL)

    def __len__(self) -> int:
        """Return the number of counters in use."""
        return len(self._counters)

    @property
    def shared(self) -> int:
        """How often a key had to share its cells since the start: the table was full."""
        return sum(keys.shared for keys in self._keys.values())

    def limiters(
        self, levels: Iterable[Level], now: float, *, suspendable: bool = False
    ) -> SessionLimiters | None:
        """Make the limiters of a session; None without limits. Levels are asked in order.

        With `suspendable` they are made also without limits, and messages may be dropped.
        """
        publish: list[WindowCounter] = []
        subscribe: list[WindowCounter] = []
        for level in levels:
            tier = self.tiers.get(level.tier)
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

    def _limiter(self, counters: list[WindowCounter]) -> DirectionLimiter:
        return DirectionLimiter(tuple(counters), self._report, self._table)

    def _report(self, counter: WindowCounter) -> None:
        self._first_full.append(counter)
        self._notify(counter)

    def _counter(self, level: Level, tier: Tier, direction: str, now: float) -> WindowCounter:
        fingerprint = _fingerprint(level.name, tier.name, direction, level.key)
        if (counter := self._counters.get(fingerprint)) is None:
            keys = self._keys[tier.per]
            counter = WindowCounter(level.name, tier, self._table, keys, fingerprint, now)
            self._counters[fingerprint] = counter
        return counter


def width(tiers: Mapping[str, Tier]) -> int:
    """Return how many integers a process needs to count by these tiers."""
    return max(len(Slot), block_size() * len(_periods(tiers)))


def _periods(tiers: Mapping[str, Tier]) -> list[int]:
    return sorted({tier.per for tier in tiers.values() if tier.limits})


def _fingerprint(*name: str) -> int:
    """Return 63 bits of a hash: two of 65,536 keys have the same once in four billion cases."""
    text = "\0".join(name).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
