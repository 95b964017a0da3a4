"""The cells that count a key: each key has a pair of its own, in every process. No clock.

Every process gives cells to the keys that it meets, in its own column, and publishes the
fingerprint of the key beside them. So each column has one writer, and no lock is needed. Another
process finds its keys there by their fingerprints: all of them once, later only those that were
published since. The serial number of the column, which grows with each publication, says how many
that are. A reader looks at it after it has read a count: an unchanged number proves that the cell
belonged to the key.

The pairs are given out in a circle. A pair whose key no session uses, and which counts nothing in
this window or the one before, is given to the next key. If there is no such pair, keys share one of
a few pairs by their fingerprints; they are then throttled too early. `shared` counts that.

A block of a column holds the serial number, the fingerprints, the pairs, the shared pairs, and one
integer that is always zero.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from trio_gw.guard import memory_barrier

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.guard.counter import CounterTable

PAIRS = 1 << 17  # two for each of 65,536 keys: many tiers count each direction
SHARED_PAIRS = 1 << 12
_COUNT_BITS, _COUNT, _STAMP = 39, 0x7F_FFFF_FFFF, 0xFF_FFFF  # as in `counter`


def block_size() -> int:
    """Return how many integers of a column one length of window needs."""
    return 1 + PAIRS + 2 * (PAIRS + SHARED_PAIRS) + 1


class KeyCells:
    """The cells for one length of window, as the process of this table gives and finds them.

    `block` is the place of the block in each column. `in_use` tells whether a session of this
    process uses the key with a fingerprint.
    """

    def __init__(
        self, table: CounterTable, block: int, per: int, in_use: Callable[[int], bool]
    ) -> None:
        self._cells = table.cells
        self._memory = table.memory
        self._width = table.width
        self._processes = table.others + 1
        self._own = table.own
        self._block = block
        self._fingerprints = block + 1
        self._pairs = block + 1 + PAIRS
        self._per = per
        self._in_use = in_use
        self._full_in = -1  # no pair is free in this window
        self.shared = 0  # how often a key had to share its cells
        # A worker that replaces another one continues with the column of that one.
        given = min(self._cells[self._own + block], PAIRS)
        first = self._own + self._fingerprints
        self._slots = {
            print_: slot for slot, print_ in enumerate(self._cells[first : first + given])
        }

    def cell(self, fingerprint: int, now: float) -> int:
        """Return the place of the key's pair in the column of this process."""
        slot = self._slots.get(fingerprint)
        if slot is None:
            slot = self._give(fingerprint, int(now // self._per))
        if slot is None:
            self.shared += 1
            return self._shared_pair(fingerprint)
        return self._pairs + 2 * slot

    def places(self, fingerprint: int) -> array[int]:
        """Return where every process counts the key, as long as none has published anything."""
        pair = self._shared_pair(fingerprint)
        return array("q", (index * self._width + pair for index in range(self._processes)))

    def serials(self) -> array[int]:
        """Return the places of the serial numbers of all other processes, and of a zero."""
        places = array("q", (at * self._width + self._block for at in range(self._processes)))
        places[self._own // self._width] = self._own + self._block + block_size() - 1
        return places

    def locate(self, fingerprint: int, places: array[int], seen: array[int]) -> None:
        """Bring `places` up to date with what was published since the serial numbers `seen`."""
        for index in range(self._processes):
            start = index * self._width
            if start == self._own:
                continue
            serial = self._cells[start + self._block]
            if serial == seen[index]:
                continue
            pairs = start + self._pairs
            slot = self._find(start, max(seen[index], serial - PAIRS), serial, fingerprint)
            if slot is not None:
                places[index] = pairs + 2 * slot
            elif pairs <= places[index] < pairs + 2 * PAIRS:
                slot = (places[index] - pairs) // 2
                if self._cells[start + self._fingerprints + slot] != fingerprint:
                    places[index] = start + self._shared_pair(fingerprint)
            seen[index] = serial

    def _shared_pair(self, fingerprint: int) -> int:
        return self._pairs + 2 * (PAIRS + fingerprint % SHARED_PAIRS)

    def _give(self, fingerprint: int, window: int) -> int | None:
        """Return a pair to a key, and publish that; return its number, None if none is free."""
        if window == self._full_in:
            return None
        cells, own = self._cells, self._own
        for _ in range(PAIRS):
            serial = cells[own + self._block]
            slot = serial % PAIRS
            owner = cells[own + self._fingerprints + slot]
            if serial < PAIRS or not self._is_live(owner, slot, window):
                break
            cells[own + self._block] = serial + 1
        else:
            self._full_in = window
            return None
        if serial >= PAIRS:
            self._slots.pop(owner, None)
        # What was counted in the shared pair may be this key's.
        pair, shared = own + self._pairs + 2 * slot, own + self._shared_pair(fingerprint)
        cells[pair : pair + 2] = cells[shared : shared + 2]
        cells[own + self._fingerprints + slot] = fingerprint
        memory_barrier.full()
        cells[own + self._block] = serial + 1
        memory_barrier.full()
        self._slots[fingerprint] = slot
        return slot

    def _is_live(self, owner: int, slot: int, window: int) -> bool:
        if self._in_use(owner):
            return True
        pair = self._own + self._pairs + 2 * slot
        stamps = window & _STAMP, (window - 1) & _STAMP
        return any(
            value & _COUNT and value >> _COUNT_BITS in stamps
            for value in self._cells[pair : pair + 2]
        )

    def _find(self, start: int, first: int, last: int, fingerprint: int) -> int | None:
        """Find a fingerprint among the publications `first` to `last` of a column."""
        if first >= last:
            return None
        low, high = first % PAIRS, (last - 1) % PAIRS + 1
        found = None
        for begin, end in ((low, high),) if low < high else ((low, PAIRS), (0, high)):
            at = self._search(start + self._fingerprints, begin, end, fingerprint)
            found = at if at is not None else found
        return found

    def _search(self, column: int, begin: int, end: int, fingerprint: int) -> int | None:
        pattern = fingerprint.to_bytes(8, sys.byteorder)
        position, limit = 8 * (column + begin), 8 * (column + end)
        while (position := self._memory.find(pattern, position, limit)) >= 0:
            if position % 8 == 0:
                return position // 8 - column
            position += 1
        return None
