"""How much of a tier one key has used. No clock: `now` is a parameter.

A *quota* is one key's use of a tier: so many events or bytes in each window. Windows are fixed,
aligned to the epoch, so all processes agree on them. What was used is counted in a *ledger* of
integers that all processes share: each writes to its own column and reads all.

A cell of the ledger holds the number of a window and the count in it in one integer, so nothing
is ever cleared: a count of an older window is none. Two cells belong to a key, for odd and even
windows: a burst depends on what the window before it used.

Counting is exact, also by several processes; `gate` does it. What is far from the limit is counted
first, and looked at after that: of two that do so in one instant, the later one sees both. Near
the limit one process at a time looks and counts, under a lock. A process that is stopped while it
holds the lock is not waited for (`counters.Lock`): the others then count without it. Never does
more pass for that. But of messages that meet at the limit in one instant, each may see the others,
and all may be refused though there was room for some: one message less for each process.

This file is compiled where a C compiler is at hand; `quota.pxd` says with which types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard import fence

if TYPE_CHECKING:
    from trio_gw.config.tiers import Action, Tier
    from trio_gw.guard.gate import Gate
    from trio_gw.supervision.shared_memory import Counters

# A count has 39 bits, the number of its window 24 before them: with the sign that makes 64. Written
# out, because compiled they are integers of C, which `1 << 39` would not fit into.
_COUNT_BITS = 39
_COUNT = 0x7F_FFFF_FFFF
_STAMP = 0xFF_FFFF
# What another process may just be counting, at most as a rule: below that, nobody has to wait.
_EVENTS, _OCTETS = 64, 1 << 16


class Shut(NamedTuple):
    """A refusal to let a message pass: until when (epoch seconds), what to do, and why.

    If it `lasts`, every message is refused until then, as long as nothing is asked for another
    session.
    """

    until: float
    action: Action
    reason: str
    lasts: bool


class Ledger:
    """The counts of all keys, as seen by the process with this `index`."""

    __slots__ = ("_own", "_size", "_width", "cells", "lock", "others")

    def __init__(self, counters: Counters, index: int) -> None:
        self.cells = counters.cells
        self._size = len(counters.cells)
        self._width = counters.width
        self._own = range(counters.processes)[index] * counters.width
        self.others = counters.processes - 1
        self.lock = counters.lock

    def used(self, cell: int, window: int) -> int:
        """Return what all processes have counted in a window."""
        stamp = window & _STAMP
        total = 0
        if not self.others:
            value = self.cells[cell]
            return value & _COUNT if value >> _COUNT_BITS == stamp else 0
        while cell < self._size:
            value = self.cells[cell]
            if value >> _COUNT_BITS == stamp:
                total += value & _COUNT
            cell += self._width
        return total

    def give_back(self, cell: int, window: int, amount: int) -> None:
        """Count less, if it is still this window that is counted."""
        value = self.cells[self._own + cell]
        if value >> _COUNT_BITS == window & _STAMP:
            self.cells[self._own + cell] = value - min(amount, value & _COUNT)

    def add(self, cell: int, window: int, amount: int) -> None:
        """Count in a window, or take back; a count that is full stays full."""
        stamp = window & _STAMP
        value = self.cells[self._own + cell]
        count = amount
        if value >> _COUNT_BITS == stamp:
            count += value & _COUNT
        if count > _COUNT:
            count = _COUNT
        self.cells[self._own + cell] = (stamp << _COUNT_BITS) | count
        if self.others:
            fence.settle()


class Quota:
    """One key's use of a tier; shared by all sessions of that key in this process."""

    __slots__ = ("__weakref__", "_ledger", "asked", "burst", "cell", "lent", "level", "limit",
                 "octets", "per", "reason", "tier", "told")  # fmt: skip

    def __init__(self, level: str, tier: Tier, ledger: Ledger, cell: int) -> None:
        self.level = level
        self.tier = tier
        self.reason = f"{level} limit {tier.name} exceeded"
        self.told = -1  # the last window whose end of room was told
        self.per = tier.per
        self.octets = tier.octets
        self.limit = tier.limit
        self.burst = tier.burst
        self._ledger = ledger
        self.cell = cell
        self.asked = 0  # the window that the last gate asked about
        self.lent: set[Gate] = set()  # gates that may let pass something without asking

    def window(self, now: float) -> int:
        """Return the number of the window."""
        return int(now // self.per)

    def room(self, window: int) -> int:
        """Return how much of a window is left; less than nothing if a message exceeded it."""
        odd = window & 1
        limit = self.limit
        if self.burst:
            burst = self.burst
            before = self._ledger.used(self.cell + 1 - odd, window - 1) - limit
            if before > 0:
                burst -= before
            if burst > 0:
                limit += burst
        return limit - self._ledger.used(self.cell + odd, window)

    def charge(self, messages: int, octets: int, now: float) -> None:
        """Count what passes."""
        amount = octets if self.octets else messages
        if amount:
            window = int(now // self.per)
            self._ledger.add(self.cell + (window & 1), window, amount)

    def fits(self, messages: int, octets: int, now: float) -> bool:
        """Tell whether a whole chunk may pass, without having to look at each of its messages."""
        window = int(now // self.per)
        others = self._ledger.others
        if self.burst:
            room = self.room(window)
        else:
            room = self.limit - self._ledger.used(self.cell + (window & 1), window)
        if self.octets:
            return octets + others * _OCTETS < room
        return messages + others * _EVENTS <= room

    def exceeded(self, octets: int, window: int) -> bool:
        """Tell whether a message that is counted already should not have been."""
        return self.room(window) + (octets if self.octets else 1) <= 0

    def shut(self, now: float) -> Shut:
        """Say until when there is no room."""
        until = (self.window(now) + 1) * self.per
        # What other processes count is taken back where it proves to be too much.
        return Shut(until, self.tier.on_exceed, self.reason, not self._ledger.others)
