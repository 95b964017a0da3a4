"""Which block of the shared counters counts which length of window. No clock.

Every tier of the settings has its block, made before the fork. The lengths of a control plane's
policies are not known then. So with a control plane there are blocks for the usual lengths, and
spare ones: a process that meets another length takes one, and writes the length beside it, where
all processes read it. It is never given back. After the last one is taken, `find` returns None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.guard import memory_barrier
from trio_gw.guard.key_cells import block_size
from trio_gw.supervision.shared_memory import Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.tiers import Tier
    from trio_gw.guard.counter import CounterTable

USUAL = (1, 60, 3600, 86400, 30 * 86400)  # seconds: the units of policies in API Manager
SPARE = 4  # blocks for other lengths; each is 3 MiB of address space for a process


def width(tiers: Mapping[str, Tier], *, policies: bool = False) -> int:
    """Return how many integers a process needs to count by these tiers, and by policies."""
    blocks = len(_fixed(tiers, policies=policies))
    size = (blocks + SPARE) * block_size() + SPARE if policies else blocks * block_size()
    return max(len(Slot), size)


class WindowBlocks:
    """The blocks of a table that was made with this `width`."""

    def __init__(
        self, table: CounterTable, tiers: Mapping[str, Tier], *, policies: bool = False
    ) -> None:
        self._cells = table.cells
        self._lock = table.lock
        self._fixed = _fixed(tiers, policies=policies)
        self._spare = range(SPARE if policies else 0)
        # The lengths of the spare blocks follow the blocks of the first process.
        self._lengths = (len(self._fixed) + len(self._spare)) * block_size()

    def find(self, per: int) -> int | None:
        """Return the place of a block in each column; None if there is none for this length."""
        if per in self._fixed:
            return self._fixed.index(per) * block_size()
        for at in self._spare:
            if self._cells[self._lengths + at] == per:
                return self._place(at)
        with self._lock:
            for at in self._spare:
                # Another process may have taken it meanwhile, for this length or another.
                if self._cells[self._lengths + at] == 0:
                    self._cells[self._lengths + at] = per
                    memory_barrier.full()
                if self._cells[self._lengths + at] == per:
                    return self._place(at)
        return None

    def nearest(self, per: int) -> int:
        """Return the next longer length that has a block in any case, or the longest."""
        return min((one for one in self._fixed if one >= per), default=self._fixed[-1])

    def _place(self, spare: int) -> int:
        return (len(self._fixed) + spare) * block_size()


def _fixed(tiers: Mapping[str, Tier], *, policies: bool) -> list[int]:
    lengths = {tier.per for tier in tiers.values() if tier.limits}
    return sorted(lengths.union(USUAL) if policies else lengths)
