"""The limiter of one direction of a session: asks its counters what may pass. No clock.

In Python, a question for every chunk costs more than relaying the chunk. So where one process
counts alone and is far from the limit, a limiter grants a *lease*: some messages and octets may
pass without a question. They are counted when the lease is granted. The unused part is subtracted
when the lease ends: with the next question to the same limiter, or when another limiter finds its
counter full. All leases on a counter are reclaimed before anything is refused. So nothing is
refused because of unused leases, and nothing passes uncounted.

Where a C compiler is available, this file is compiled; `limiter.pxd` declares the types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.guard.counter import CounterTable, WindowCounter
    from trio_gw.guard.decisions import Decided
    from trio_gw.limiting import LeaseHolder, LimitReached

# As in `counter`: C integers in the compiled form.
_COUNT_BITS = 39
_COUNT = 0x7F_FFFF_FFFF
_STAMP = 0xFF_FFFF
_MAX_OCTETS = 0x40_0000_0000  # octets counted in one step at most: no limit is larger
# A lease is a fraction of what remains, within these bounds; a smaller one is not worth its cost.
_LEASE_FRACTION = 64
_MAX_LEASE_MESSAGES, _MIN_LEASE_MESSAGES = 1024, 16
_MAX_LEASE_OCTETS, _MIN_LEASE_OCTETS = 1 << 20, 1 << 12
_UNCOUNTED = 1 << 60  # messages and octets of a lease without counters
_FOREVER = 1e18  # epoch seconds


class DirectionLimiter:
    """One direction of a session. Asks its counters in order.

    `notify` is called once per counter and window, when the limit is reached. Each of `listeners`
    is called with the counter or decision, and the number of messages that it refused; a message
    that waits is reported once for each counter or decision that refused it. Nothing passes before
    `suspended_until` (epoch seconds).
    """

    __slots__ = ("_counters", "_decided", "_holder", "_leased_at", "_messages", "_no_lease_until",
                 "_notify", "_octets", "_refused", "_table", "_waiting", "listeners",
                 "suspended_until", "until")  # fmt: skip

    def __init__(
        self,
        counters: tuple[WindowCounter, ...],
        notify: Callable[[WindowCounter], None],
        table: CounterTable,
    ) -> None:
        self.listeners: tuple[Callable[[WindowCounter | Decided, int], None], ...] = ()
        self.suspended_until = 0.0
        self._decided: tuple[Decided, ...] = ()
        self._counters = counters
        self._notify = notify
        self._table = table
        # The last message waits for it, or ends the connection.
        self._waiting: WindowCounter | Decided | None = None
        self._refused: WindowCounter | Decided | None = None  # the last message that was refused
        self._holder: LeaseHolder | None = None
        self._leased_at = 0.0  # epoch seconds
        self._messages = self._octets = 0  # the size of the lease
        self._no_lease_until = 0.0  # too little remains before that
        self.until = 0.0  # the end of the last lease, with a window; epoch seconds

    def __len__(self) -> int:
        """Return the number of counters; without any, everything passes."""
        return len(self._counters)

    def suspend(self, decided: tuple[Decided, ...]) -> None:
        """Let nothing pass until all these decisions are over; without any, let messages pass.

        The first one that is not over is the reason.
        """
        self._decided = decided
        self.suspended_until = max((one.until for one in decided), default=0.0)
        if decided:
            self.reclaim_lease()

    # -- whole chunks ----------------------------------------------------------------------

    def fits(self, messages: int, octets: int, now: float) -> bool:
        """Let a whole chunk pass and count it; or count nothing, then ask message by message.

        `messages` is the number of messages that begin in the chunk, `octets` the sum of the
        payloads of the frames that begin in it.
        """
        if messages and now < self.suspended_until:
            return False
        if self._table.others:
            return octets <= _MAX_OCTETS and self._fits_shared(messages, octets, now)
        return self._fits_single(messages, octets, now) or (
            self._reclaim_leases() and self._fits_single(messages, octets, now)
        )

    def _fits_single(self, messages: int, octets: int, now: float) -> bool:
        """Do so if no other process counts."""
        if octets > _MAX_OCTETS:
            return False
        # `WindowCounter.fits` and `CounterTable.add` inlined: in Python the calls are the cost.
        cells, size = self._table.cells, octets
        for counter in self._counters:
            window = int(now // counter.per)
            if counter.burst:
                remaining = counter.remaining(window)
            else:
                remaining = counter.limit
                value = cells[counter.cell + (window & 1)]
                if value >> _COUNT_BITS == window & _STAMP:
                    remaining -= value & _COUNT
            counter.asked_window = window
            # Frames of messages that have begun always pass.
            if messages and (size >= remaining if counter.octets else messages > remaining):
                return False
        for counter in self._counters:
            count = size if counter.octets else messages
            if count:
                cell, stamp = (
                    counter.cell + (counter.asked_window & 1),
                    counter.asked_window & _STAMP,
                )
                value = cells[cell]
                if value >> _COUNT_BITS == stamp:
                    count += value & _COUNT
                    if count > _COUNT:
                        count = _COUNT
                cells[cell] = (stamp << _COUNT_BITS) | count
        return True

    def _fits_shared(self, messages: int, octets: int, now: float) -> bool:
        """Do so while other processes count as well."""
        if messages:
            for counter in self._counters:
                if not counter.fits(messages, octets, now):
                    return False
        for counter in self._counters:
            counter.charge(messages, octets, now)
        if messages:
            for counter in self._counters:
                if counter.exceeded(0, counter.window(now)):  # by other processes, meanwhile
                    self._charge(messages, octets, now, -1)
                    return False
        return True

    # -- leases ----------------------------------------------------------------------------

    def lease(self, holder: LeaseHolder, now: float) -> bool:
        """Grant a lease to a holder that has just asked, if much of the limit remains."""
        if now < self.suspended_until:
            return False
        if not self._counters:
            self.until = _FOREVER
            self._holder = holder
            holder.acquire_lease(_UNCOUNTED, _UNCOUNTED, self.until)
            return True
        # Leases of other processes cannot be reclaimed. Within a window, less and less remains.
        if self._table.others or now < self._no_lease_until:
            return False
        messages, octets, until = _MAX_LEASE_MESSAGES, _MAX_LEASE_OCTETS, 0.0
        for counter in self._counters:
            share = counter.remaining(counter.asked_window) // _LEASE_FRACTION
            if counter.octets:
                octets = min(octets, share)
            else:
                messages = min(messages, share)
            end = (counter.asked_window + 1) * counter.per
            if not until or end < until:
                until = end
        if messages < _MIN_LEASE_MESSAGES or octets < _MIN_LEASE_OCTETS:
            self._no_lease_until = until
            return False
        self.until = until
        self._messages, self._octets, self._leased_at = messages, octets, now
        self._charge(messages, octets, now, 1)
        for counter in self._counters:
            counter.leased.add(self)
        self._holder = holder
        holder.acquire_lease(messages, octets, until)
        return True

    def reclaim_lease(self) -> None:
        """End the lease, if there is one, and ask the holder how much of it was used."""
        if self._holder is not None:
            messages, octets = self._holder.release_lease()
            self.end_lease(messages, octets)

    def end_lease(self, messages: int, octets: int) -> None:
        """End the lease and subtract its unused part, in the windows in which it was counted."""
        self._holder = None
        for counter in self._counters:
            counter.leased.discard(self)
            window = counter.window(self._leased_at)
            rest = self._octets - octets if counter.octets else self._messages - messages
            if rest > 0:
                self._table.subtract(counter.cell + (window & 1), window, rest)

    def _reclaim_leases(self) -> bool:
        """End all leases on the counters of this limiter; return whether there were any."""
        called = False
        for counter in self._counters:
            for limiter in tuple(counter.leased):
                limiter.reclaim_lease()
                called = True
        return called

    # -- message by message ----------------------------------------------------------------

    def take(self, octets: int, now: float, again: bool = False) -> LimitReached | None:
        """Let a message pass and count it; or return why not, and count nothing.

        `octets` is the payload of its first frame: more is not known yet. Pass `again` for a
        message that had to wait.
        """
        if now < self.suspended_until:
            for decided in self._decided:
                if now < decided.until:
                    return self._refuse_decided(decided, now, again)
        if self.fits(1, octets, now):
            self._waiting = None
            return None
        if (full := self._first_full(now)) is not None:
            return self._refuse(full, now, again)
        if not self._table.others:
            self._charge(1, octets, now, 1)
        else:
            with self._table.lock:
                full = self._count_near_limit(min(octets, _MAX_OCTETS), now)
            if full is not None:
                return self._refuse(full, now, again)
        self._waiting = None
        return None

    def _first_full(self, now: float) -> WindowCounter | None:
        """Return the first counter whose limit is reached."""
        for counter in self._counters:
            if counter.remaining(counter.window(now)) <= 0:
                return counter
        return None

    def _count_near_limit(self, octets: int, now: float) -> WindowCounter | None:
        """Count a message near a limit, under the lock; or return the counter that is full."""
        if (full := self._first_full(now)) is not None:
            return full
        self._charge(1, octets, now, 1)
        for counter in self._counters:
            if counter.exceeded(octets, counter.window(now)):
                self._charge(1, octets, now, -1)
                return counter
        return None

    def _refuse(self, counter: WindowCounter, now: float, again: bool) -> LimitReached:
        window = counter.window(now)
        if counter.notified != window:
            counter.notified = window
            self._notify(counter)
        self._report_refused(counter, again)
        return counter.limit_reached(now)

    def _refuse_decided(self, decided: Decided, now: float, again: bool) -> LimitReached:
        self._report_refused(decided, again)
        return decided.limit_reached(now)

    def _report_refused(self, cause: WindowCounter | Decided, again: bool) -> None:
        if not again or cause is not self._waiting:
            for listener in self.listeners:
                listener(cause, 1)
        self._waiting = None if cause.tier.on_exceed == "drop" else cause
        self._refused = cause

    def drop(self, messages: int) -> None:
        """Report messages that were dropped without a question because the last answer lasts."""
        self._waiting = None
        if self._refused is not None:
            for listener in self.listeners:
                listener(self._refused, messages)

    def add(self, octets: int, now: float) -> None:
        """Count a further frame of a message that has passed."""
        self._charge(0, octets, now, 1)

    def count(self, messages: int, octets: int, now: float) -> None:
        """Count what has passed."""
        self._charge(messages, octets, now, 1)

    def _charge(self, messages: int, octets: int, now: float, sign: int) -> None:
        """Count what passes; with a `sign` of -1, subtract it again."""
        octets = min(octets, _MAX_OCTETS)
        for counter in self._counters:
            counter.charge(sign * messages, sign * octets, now)
