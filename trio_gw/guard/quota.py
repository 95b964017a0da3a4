"""How much of a tier one key has used, and the gate of a session. No clock: `now` is a parameter.

A *quota* is one key's use of a tier: so many events or bytes in each window. Windows are fixed,
aligned to the epoch, so all processes agree on them. What was used is counted in a *ledger* of
integers that all processes share: each writes to its own column and reads all.

A cell of the ledger holds the number of a window and the count in it in one integer, so nothing
is ever cleared: a count of an older window is none. Two cells belong to a key, for odd and even
windows: a burst depends on what the window before it used.

Counting is exact, also by several processes. What is far from the limit is counted first, and
looked at after that: of two that do so in one instant, the later one sees both. Near the limit
one process at a time looks and counts, under a lock.

This file is compiled where a C compiler is at hand; `quota.pxd` says with which types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard import fence

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.tiers import Action, Tier
    from trio_gw.counters import Counters

# A count has 39 bits, the number of its window 24 before them: with the sign that makes 64. Written
# out, because compiled they are integers of C, which `1 << 39` would not fit into.
_COUNT_BITS = 39
_COUNT = 0x7F_FFFF_FFFF
_STAMP = 0xFF_FFFF
_MOST = 0x40_0000_0000  # octets that are ever counted at once: no limit is larger
# What another process may just be counting, at most as a rule: below that, nobody has to wait.
_EVENTS, _OCTETS = 64, 1 << 16


class Shut(NamedTuple):
    """A refusal to let a message pass: until when (epoch seconds), what to do, and why."""

    until: float
    action: Action
    reason: str


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

    __slots__ = ("__weakref__", "_burst", "_cell", "_ledger", "_limit", "_octets", "_per",
                 "_window", "level", "reason", "tier", "told")  # fmt: skip

    def __init__(self, level: str, tier: Tier, ledger: Ledger, cell: int) -> None:
        self.level = level
        self.tier = tier
        self.reason = f"{level} limit {tier.name} exceeded"
        self.told = -1  # the last window whose end of room was told
        self._per = tier.per
        self._octets = tier.octets
        self._limit = tier.limit
        self._burst = tier.burst
        self._ledger = ledger
        self._cell = cell
        self._window = 0  # of the gate that has just asked

    def window(self, now: float) -> int:
        """Return the number of the window."""
        return int(now // self._per)

    def room(self, window: int) -> int:
        """Return how much of a window is left; less than nothing if a message exceeded it."""
        odd = window & 1
        limit = self._limit
        if self._burst:
            burst = self._burst
            before = self._ledger.used(self._cell + 1 - odd, window - 1) - limit
            if before > 0:
                burst -= before
            if burst > 0:
                limit += burst
        return limit - self._ledger.used(self._cell + odd, window)

    def charge(self, messages: int, octets: int, now: float) -> None:
        """Count what passes."""
        amount = octets if self._octets else messages
        if amount:
            window = int(now // self._per)
            self._ledger.add(self._cell + (window & 1), window, amount)

    def fits(self, messages: int, octets: int, now: float) -> bool:
        """Tell whether a whole chunk may pass, without having to look at each of its messages."""
        window = int(now // self._per)
        others = self._ledger.others
        if self._burst:
            room = self.room(window)
        else:
            room = self._limit - self._ledger.used(self._cell + (window & 1), window)
        if self._octets:
            return octets + others * _OCTETS < room
        return messages + others * _EVENTS <= room

    def exceeded(self, octets: int, window: int) -> bool:
        """Tell whether a message that is counted already should not have been."""
        return self.room(window) + (octets if self._octets else 1) <= 0

    def shut(self, now: float) -> Shut:
        """Say until when there is no room."""
        until = (self.window(now) + 1) * self._per
        return Shut(until, self.tier.on_exceed, self.reason)


class Gate:
    """One direction of a session. Its quotas are asked in order; `tell` hears of a limit once.

    Each of `heard` hears of every message that does not pass as it came, once for each quota that
    had no room for it: a message that waits is asked about again.
    """

    __slots__ = ("_ledger", "_quotas", "_shut", "_tell", "heard")

    def __init__(
        self, quotas: tuple[Quota, ...], tell: Callable[[Quota], None], ledger: Ledger
    ) -> None:
        self.heard: tuple[Callable[[Quota], None], ...] = ()
        self._quotas = quotas
        self._tell = tell
        self._ledger = ledger
        self._shut: Quota | None = None  # the last message waits, or ends its connection

    def __len__(self) -> int:
        """Count its quotas; without any it lets pass everything."""
        return len(self._quotas)

    def fits(self, messages: int, octets: int, now: float) -> bool:
        """Let a whole chunk pass, and count it; or count nothing, and be asked message by message.

        So many `messages` begin in it, and the payloads of frames that do have so many `octets`.
        """
        if octets > _MOST:
            return False
        if self._ledger.others:
            return self._fits_beside(messages, octets, now)
        # What `Quota.fits` and `Ledger.add` do, without calls: in Python those are what it costs.
        cells, size = self._ledger.cells, octets
        for quota in self._quotas:
            window = quota._window = int(now // quota._per)
            if quota._burst:
                room = quota.room(window)
            else:
                room = quota._limit
                value = cells[quota._cell + (window & 1)]
                if value >> _COUNT_BITS == window & _STAMP:
                    room -= value & _COUNT
            # What belongs to messages that have begun may go on, whatever room there is.
            if messages and (size >= room if quota._octets else messages > room):
                return False
        for quota in self._quotas:
            count = size if quota._octets else messages
            if count:
                cell, stamp = quota._cell + (quota._window & 1), quota._window & _STAMP
                value = cells[cell]
                if value >> _COUNT_BITS == stamp:
                    count += value & _COUNT
                    if count > _COUNT:
                        count = _COUNT
                cells[cell] = (stamp << _COUNT_BITS) | count
        return True

    def _fits_beside(self, messages: int, octets: int, now: float) -> bool:
        """Do so while other processes count, too."""
        if messages:
            for quota in self._quotas:
                if not quota.fits(messages, octets, now):
                    return False
        for quota in self._quotas:
            quota.charge(messages, octets, now)
        if messages:
            for quota in self._quotas:
                if quota.exceeded(0, quota.window(now)):  # others have used it up meanwhile
                    self._charge(messages, octets, now, -1)
                    return False
        return True

    def take(self, octets: int, now: float) -> Shut | None:
        """Let a message pass, and count it; or say why not, and count nothing.

        `octets` are those of its first frame, which is all that is known of it so far.
        """
        if self.fits(1, octets, now):
            self._shut = None
            return None
        if (full := self._full(now)) is not None:
            return self._refuse(full, now)
        if not self._ledger.others:
            self._charge(1, octets, now, 1)
        else:
            with self._ledger.lock:
                full = self._squeeze(min(octets, _MOST), now)
            if full is not None:
                return self._refuse(full, now)
        self._shut = None
        return None

    def _full(self, now: float) -> Quota | None:
        """Find the first quota without room."""
        for quota in self._quotas:
            if quota.room(quota.window(now)) <= 0:
                return quota
        return None

    def _squeeze(self, octets: int, now: float) -> Quota | None:
        """Count a message near a limit, while other processes count, too; or tell what is full."""
        if (full := self._full(now)) is not None:
            return full
        self._charge(1, octets, now, 1)
        for quota in self._quotas:
            if quota.exceeded(octets, quota.window(now)):
                self._charge(1, octets, now, -1)
                return quota
        return None

    def _refuse(self, quota: Quota, now: float) -> Shut:
        window = quota.window(now)
        if quota.told != window:
            quota.told = window
            self._tell(quota)
        if quota is not self._shut:
            for hear in self.heard:
                hear(quota)
        self._shut = None if quota.tier.on_exceed == "drop" else quota
        return quota.shut(now)

    def add(self, octets: int, now: float) -> None:
        """Count a further frame of a message that was let pass."""
        self._charge(0, octets, now, 1)

    def _charge(self, messages: int, octets: int, now: float, sign: int) -> None:
        """Count what passes; or take that back, with a `sign` of -1."""
        octets = min(octets, _MOST)
        for quota in self._quotas:
            quota.charge(sign * messages, sign * octets, now)
