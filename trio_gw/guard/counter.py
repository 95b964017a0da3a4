"""How much of a tier one key has used. No clock: `now` is a parameter.

A *counter* counts what one key uses of a tier, in events or in bytes. Windows are fixed and aligned
to the epoch, so all processes agree on them. The counts are in a *table* of integers in shared
memory: each process writes to its own column and reads all columns.

A cell of the table holds the number of a window and the count in that window in one integer, so no
cell is ever cleared: a count with the number of an older window is zero. Each key has two cells,
for odd and even windows, because a burst depends on the use in the previous window.

Counting is exact with several processes, too; `limiter` does it. Far from the limit, a process
counts first and looks afterwards: when two do this at the same time, the later one sees both
counts. Near the limit, one process at a time looks and counts, under a lock. The others do not
wait for a process that is stopped while it holds the lock (`shared_memory.ProcessLock`); they count
without it. More than the limit never passes. But when messages meet at the limit at the same time,
each process may see the counts of the others, and all may be refused although there was room for
some: one message too few for each process.

Where a C compiler is available, this file is compiled; `counter.pxd` declares the types.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

from trio_gw.guard import memory_barrier
from trio_gw.limiting import LimitReached

if TYPE_CHECKING:
    import mmap

    from trio_gw.config.tiers import Tier
    from trio_gw.limiting import ChunkLimiter
    from trio_gw.supervision.shared_memory import Counters

# A cell has 64 bits: the sign, 24 bits for the number of the window, 39 for the count. The masks
# are literals because the compiled form has C integers, and `1 << 39` overflows an `int`.
_COUNT_BITS = 39
_COUNT = 0x7F_FFFF_FFFF
_STAMP = 0xFF_FFFF
_NO_LIMIT = 0x40_0000_0000
# What another process counts at the same time, usually at most: further from the limit, no lock.
_EVENTS, _OCTETS = 64, 1 << 16


class CounterTable:
    """The counts of all keys, as seen by the process with this `index`."""

    __slots__ = ("cells", "lock", "memory", "others", "own", "width")

    def __init__(self, counters: Counters, index: int) -> None:
        self.cells = counters.cells
        self.memory: mmap.mmap = counters.cells.obj  # type: ignore[assignment]  # the same as bytes
        self.width = counters.width
        self.own = range(counters.processes)[index] * counters.width
        self.others = counters.processes - 1
        self.lock = counters.lock

    def used(self, cell: int, window: int) -> int:
        """Return what a cell counts in a window; `cell` is a place in the whole table."""
        value = self.cells[cell]
        return value & _COUNT if value >> _COUNT_BITS == window & _STAMP else 0

    def subtract(self, cell: int, window: int, amount: int) -> None:
        """Reduce a count, if the cell still counts this window."""
        value = self.cells[self.own + cell]
        if value >> _COUNT_BITS == window & _STAMP:
            self.cells[self.own + cell] = value - min(amount, value & _COUNT)

    def add(self, cell: int, window: int, amount: int) -> None:
        """Add to the count of a window, or subtract; the count saturates."""
        stamp = window & _STAMP
        value = self.cells[self.own + cell]
        count = amount
        if value >> _COUNT_BITS == stamp:
            count += value & _COUNT
        if count > _COUNT:
            count = _COUNT
        self.cells[self.own + cell] = (stamp << _COUNT_BITS) | count
        if self.others:
            memory_barrier.full()


class CellDirectory(Protocol):
    """Knows the cells of each key, by its fingerprint (`key_cells`).

    `cell` is the key's pair in the column of this process. `places` and `serials` are those of all
    processes; `locate` brings places up to date.
    """

    def cell(self, fingerprint: int, now: float) -> int: ...
    def places(self, fingerprint: int) -> array[int]: ...
    def serials(self) -> array[int]: ...
    def locate(self, fingerprint: int, places: array[int], seen: array[int]) -> None: ...


class WindowCounter:
    """What one key uses of a tier; shared by all sessions of that key in this process."""

    __slots__ = ("__weakref__", "_directory", "_places", "_seen", "_serials", "_table",
                 "asked_window", "burst", "cell", "fingerprint", "leased", "level", "limit",
                 "notified", "octets", "per", "reason", "tier")  # fmt: skip

    def __init__(
        self,
        level: str,
        tier: Tier,
        table: CounterTable,
        directory: CellDirectory,
        fingerprint: int,
        now: float,
    ) -> None:
        self.level = level
        self.tier = tier
        self.reason = f"{level} limit {tier.name} exceeded"
        self.notified = -1  # the last window in which `notify` was called
        self.per = tier.per
        self.octets = tier.octets
        self.limit = tier.limit
        self.burst = tier.burst
        self._table = table
        self.fingerprint = fingerprint
        self.cell = directory.cell(fingerprint, now)  # in the column of this process
        self._directory = directory
        self._places = directory.places(fingerprint)  # of its pair, in the whole table, by process
        self._places[table.own // table.width] = table.own + self.cell
        self._serials = directory.serials()
        self._seen = array("q", bytes(8 * len(self._places)))
        self.asked_window = 0  # the window of the last question
        self.leased: set[ChunkLimiter] = set()  # limiters with a lease

    def change(self, tier: Tier) -> None:
        """Count by another tier of the same unit and length, from now on."""
        for limiter in tuple(self.leased):
            limiter.reclaim_lease()
        self.tier = tier
        self.limit = tier.limit if tier.limits else _NO_LIMIT
        self.burst = tier.burst

    def window(self, now: float) -> int:
        """Return the number of the window."""
        return int(now // self.per)

    def used(self, odd: int, window: int) -> int:
        """Return the sum of what all processes counted in a window, which is `odd` or not."""
        table = self._table
        if not table.others:
            return table.used(self.cell + odd, window)
        stamp = window & _STAMP
        while True:
            total = 0
            for index in range(table.others + 1):
                value = table.cells[self._places[index] + odd]
                if value >> _COUNT_BITS == stamp:
                    total += value & _COUNT
            memory_barrier.full()
            for index in range(table.others + 1):
                if table.cells[self._serials[index]] != self._seen[index]:
                    break
            else:
                return total
            # Another process has published keys, so a cell may belong to another key now.
            self._directory.locate(self.fingerprint, self._places, self._seen)

    def remaining(self, window: int) -> int:
        """Return how much of a window is left; negative if a message exceeded the limit."""
        odd = window & 1
        limit = self.limit
        if self.burst:
            burst = self.burst
            before = self.used(1 - odd, window - 1) - limit
            if before > 0:
                burst -= before
            if burst > 0:
                limit += burst
        return limit - self.used(odd, window)

    def charge(self, messages: int, octets: int, now: float) -> None:
        """Count what passes."""
        amount = octets if self.octets else messages
        if amount:
            window = int(now // self.per)
            self._table.add(self.cell + (window & 1), window, amount)

    def fits(self, messages: int, octets: int, now: float) -> bool:
        """Return whether a whole chunk may pass, without a look at each of its messages."""
        window = int(now // self.per)
        others = self._table.others
        if self.burst:
            remaining = self.remaining(window)
        else:
            remaining = self.limit - self.used(window & 1, window)
        if self.octets:
            return octets + others * _OCTETS < remaining
        return messages + others * _EVENTS <= remaining

    def exceeded(self, octets: int, window: int) -> bool:
        """Return whether a message that was just counted is over the limit."""
        return self.remaining(window) + (octets if self.octets else 1) <= 0

    def limit_reached(self, now: float) -> LimitReached:
        """Say until when the limit is reached."""
        until = (self.window(now) + 1) * self.per
        # Other processes may count too much at first and subtract it again.
        return LimitReached(until, self.tier.on_exceed, self.reason, not self._table.others)
