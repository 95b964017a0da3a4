"""How much may pass: what limits a session, and which integers count it.

A *level* names a tier and a key; all sessions of that key share a quota (`quota`). Its cells in
the shared ledger are found by a hash, so the table never grows; keys that meet in one cell share
it, which can only count too much. Tiers of different windows have blocks of their own, for they
would take each other's counts for old ones. No clock here.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard.gate import Gate
from trio_gw.guard.quota import Ledger, Quota
from trio_gw.supervision.shared_memory import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trio_gw.config.tiers import Tier
    from trio_gw.supervision.shared_memory import Counters

MOST_FULL = 1000  # quotas that are kept although nobody uses them
CELLS = 1 << 16  # keys of one period without clashes, at best; a pair of integers each


class Level(NamedTuple):
    """What is limited: its name for people, the name of its tier, and the key that is counted."""

    name: str
    tier: str
    key: str


class Gates(NamedTuple):
    """Both directions of a session. `drops` tells whether messages may vanish on the way."""

    publish: Gate
    subscribe: Gate
    drops: bool

    def hear(
        self, publish: Callable[[Quota, int], None], subscribe: Callable[[Quota, int], None]
    ) -> None:
        """Let these hear of messages that do not pass as they came: for what, and how many."""
        self.publish.heard += (publish,)
        self.subscribe.heard += (subscribe,)


class Limits:
    """All quotas of a process. Quotas live as long as some session uses them; counts stay.

    The last ones that were told of live on, lest the next session tells of them again.
    """

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
        self._full: deque[Quota] = deque(maxlen=MOST_FULL)

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
        return Gates(self._gate(publish), self._gate(subscribe), drops)

    def _gate(self, quotas: list[Quota]) -> Gate:
        return Gate(tuple(quotas), self._say, self._ledger)

    def _say(self, quota: Quota) -> None:
        self._full.append(quota)
        self._tell(quota)

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
