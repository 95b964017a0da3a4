"""The gate of one direction of a session: what may pass by all of its quotas. No clock.

To ask for every chunk costs more than to relay it, in Python. So where one process counts for
itself, far from the limit, a gate *lends*: some messages and octets that may pass without asking.
They are counted at once; what of them was not used is given back when the loan ends, by the next
question of the same gate, or by that of another one that finds no room: before anything is
refused, all loans are called back. So nothing is refused because of what nobody has used, and
nothing passes that was not counted.

This file is compiled where a C compiler is at hand; `gate.pxd` says with which types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.guard.quota import Ledger, Quota, Shut

# As in `quota`: compiled they are integers of C.
_COUNT_BITS = 39
_COUNT = 0x7F_FFFF_FFFF
_STAMP = 0xFF_FFFF
_MOST = 0x40_0000_0000  # octets that are ever counted at once: no limit is larger
# What is lent: a part of the room, at most so much; less than the least is not worth the trouble.
_PART = 64
_MOST_MESSAGES, _LEAST_MESSAGES = 1024, 16
_MOST_OCTETS, _LEAST_OCTETS = 1 << 20, 1 << 12


class Borrower(Protocol):
    """Who may let pass something without asking until it has to `repay`: that ends the loan.

    `repay` tells how many messages and octets of it were used.
    """

    def borrow(self, messages: int, octets: int, until: float) -> None: ...
    def repay(self) -> tuple[int, int]: ...


class Gate:
    """One direction of a session. Its quotas are asked in order; `tell` hears of a limit once.

    Each of `heard` hears of every message that does not pass as it came, once for each quota that
    had no room for it: a message that waits is asked about again. It is told the quota, and of how
    many messages.
    """

    __slots__ = ("_borrower", "_ledger", "_messages", "_octets", "_poor", "_quotas",
                 "_refused", "_shut", "_since", "_tell", "heard", "until")  # fmt: skip

    def __init__(
        self, quotas: tuple[Quota, ...], tell: Callable[[Quota], None], ledger: Ledger
    ) -> None:
        self.heard: tuple[Callable[[Quota, int], None], ...] = ()
        self._quotas = quotas
        self._tell = tell
        self._ledger = ledger
        self._shut: Quota | None = None  # the last message waits, or ends its connection
        self._refused: Quota | None = None  # what had no room for the last message that was refused
        self._borrower: Borrower | None = None
        self._since = 0.0  # when it borrowed, epoch seconds
        self._messages = self._octets = 0  # what it borrowed
        self._poor = 0.0  # until then there is too little room to lend
        self.until = 0.0  # then the last loan ends, or has ended: with a window; epoch seconds

    def __len__(self) -> int:
        """Count its quotas; without any it lets pass everything."""
        return len(self._quotas)

    # -- whole chunks ----------------------------------------------------------------------

    def fits(self, messages: int, octets: int, now: float) -> bool:
        """Let a whole chunk pass, and count it; or count nothing, and be asked message by message.

        So many `messages` begin in it, and the payloads of frames that do have so many `octets`.
        """
        if self._ledger.others:
            return octets <= _MOST and self._fits_beside(messages, octets, now)
        return self._fits_alone(messages, octets, now) or (
            self._call_back() and self._fits_alone(messages, octets, now)
        )

    def _fits_alone(self, messages: int, octets: int, now: float) -> bool:
        """Do so if nobody else counts."""
        if octets > _MOST:
            return False
        # What `Quota.fits` and `Ledger.add` do, without calls: in Python those are what it costs.
        cells, size = self._ledger.cells, octets
        for quota in self._quotas:
            window = int(now // quota.per)
            if quota.burst:
                room = quota.room(window)
            else:
                room = quota.limit
                value = cells[quota.cell + (window & 1)]
                if value >> _COUNT_BITS == window & _STAMP:
                    room -= value & _COUNT
            quota.asked = window
            # What belongs to messages that have begun may go on, whatever room there is.
            if messages and (size >= room if quota.octets else messages > room):
                return False
        for quota in self._quotas:
            count = size if quota.octets else messages
            if count:
                cell, stamp = quota.cell + (quota.asked & 1), quota.asked & _STAMP
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

    # -- what may pass without asking ------------------------------------------------------

    def lend(self, borrower: Borrower, now: float) -> bool:
        """Let a borrower, which has just asked, pass more without asking, if there is much room."""
        # Who counts beside others could not call a loan back. Room only shrinks in a window.
        if self._ledger.others or now < self._poor:
            return False
        messages, octets, until = _MOST_MESSAGES, _MOST_OCTETS, 0.0
        for quota in self._quotas:
            share = quota.room(quota.asked) // _PART
            if quota.octets:
                octets = min(octets, share)
            else:
                messages = min(messages, share)
            end = (quota.asked + 1) * quota.per
            if not until or end < until:
                until = end
        if messages < _LEAST_MESSAGES or octets < _LEAST_OCTETS:
            self._poor = until
            return False
        self.until = until
        self._messages, self._octets, self._since = messages, octets, now
        self._charge(messages, octets, now, 1)
        for quota in self._quotas:
            quota.lent.add(self)
        self._borrower = borrower
        borrower.borrow(messages, octets, until)
        return True

    def settle(self) -> None:
        """End the loan, if there is one."""
        if self._borrower is not None:
            messages, octets = self._borrower.repay()
            self.take_back(messages, octets)

    def take_back(self, messages: int, octets: int) -> None:
        """End the loan, of which so much was used, in the windows in which it was lent."""
        self._borrower = None
        for quota in self._quotas:
            quota.lent.discard(self)
            window = quota.window(self._since)
            rest = self._octets - octets if quota.octets else self._messages - messages
            if rest > 0:
                self._ledger.give_back(quota.cell + (window & 1), window, rest)

    def _call_back(self) -> bool:
        """End all loans that take room from this gate; returns whether there were any."""
        called = False
        for quota in self._quotas:
            for gate in tuple(quota.lent):
                gate.settle()
                called = True
        return called

    # -- message by message ----------------------------------------------------------------

    def take(self, octets: int, now: float, again: bool = False) -> Shut | None:
        """Let a message pass, and count it; or say why not, and count nothing.

        `octets` are those of its first frame, which is all that is known of it so far. It is asked
        about `again` after it had to wait.
        """
        if self.fits(1, octets, now):
            self._shut = None
            return None
        if (full := self._full(now)) is not None:
            return self._refuse(full, now, again)
        if not self._ledger.others:
            self._charge(1, octets, now, 1)
        else:
            with self._ledger.lock:
                full = self._squeeze(min(octets, _MOST), now)
            if full is not None:
                return self._refuse(full, now, again)
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

    def _refuse(self, quota: Quota, now: float, again: bool) -> Shut:
        window = quota.window(now)
        if quota.told != window:
            quota.told = window
            self._tell(quota)
        if not again or quota is not self._shut:
            for hear in self.heard:
                hear(quota, 1)
        self._shut = None if quota.tier.on_exceed == "drop" else quota
        self._refused = quota
        return quota.shut(now)

    def drop(self, messages: int) -> None:
        """Hear that so many more messages were dropped, by the last verdict, which lasts."""
        self._shut = None
        if self._refused is not None:
            for hear in self.heard:
                hear(self._refused, messages)

    def add(self, octets: int, now: float) -> None:
        """Count a further frame of a message that was let pass."""
        self._charge(0, octets, now, 1)

    def count(self, messages: int, octets: int, now: float) -> None:
        """Count what has passed."""
        self._charge(messages, octets, now, 1)

    def _charge(self, messages: int, octets: int, now: float, sign: int) -> None:
        """Count what passes; or take that back, with a `sign` of -1."""
        octets = min(octets, _MOST)
        for quota in self._quotas:
            quota.charge(sign * messages, sign * octets, now)
