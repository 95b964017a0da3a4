"""What the shuttle does with the sockets that are ready: read, scan, send on. It knows no tasks.

One epoll set holds both sockets of every pair, each registered once and level-triggered, so that
nothing is lost by leaving something for the next round. All reads share one buffer; what a
socket did not take (`unsent`, at most one chunk) is the only thing that is copied and kept. While
it is, the socket that sent it is not read: backpressure is TCP's own.

Where a direction is limited, its gate is asked once for all that was received, if it has not lent
more than that before. Only where it is not sure to fit, or something of the last message was
dropped, every message is looked at (`toll`).

No connection holds up the others, whatever its bytes are: of what was received, so many frames are
looked at in one turn. The rest stays on the lane; in each of the next rounds a few of the sockets
that have one go on with it, in turn, behind all that are ready. So many tasks are woken in a round
at most, for those that are woken together run together.

TLS is read and written here too, by OpenSSL on the same sockets. A read always has room for a
whole record, so that nothing decrypted stays where epoll cannot see it.

Whatever is not plain relaying (an end, an error, a lane that halts, a message that has to wait) is
not judged here: the pair is dropped, and its `let_go` is called. Nothing is lost by that: an end or
an error shows again to the next who reads or writes, and what was received is on the lane, in
`unsent`, or waits at its gate.

This file is compiled where a C compiler is at hand; `turn.pxd` says with which types.
"""

from __future__ import annotations

import select
import ssl
from collections import deque
from typing import TYPE_CHECKING

from trio_gw.relay import calls
from trio_gw.relay.lane import LOOKS, MAX_HELD
from trio_gw.relay.secure import RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.relay.pair import End, Pair

# Bytes per read: a message of 64 KiB with its header, and the five TLS records that it comes in, in
# one go; still small per peer.
CHUNK = 5 * RECORD
_ROOM = MAX_HELD  # in front of what is read, for what a lane held back
SCREENED = 64  # messages that are judged one by one in one turn
_LOOKS, _SCREENED = LOOKS, SCREENED
RESUMED = 4  # sockets that go on in a round with what they received in an earlier one
_WOKEN = 16  # tasks that are woken in one round

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_GONE = select.EPOLLHUP | select.EPOLLERR  # reported whether asked for or not


class Sockets:
    """All pairs that are being relayed, in one epoll set."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._number = self._epoll.fileno()
        self._ready: calls.Ready = [(0, 0) for _ in range(calls.MOST)]
        self._ends: list[End | None] = []  # by their numbers
        self._count = 0
        self._calls: dict[int, Callable[[], None]] = {}  # of guests, by their numbers
        self._caller = -1  # a descriptor that is none of the sockets
        self.called = False  # it was ready
        self.freed = False  # Trio has something to do: a pair was let go, a guest called
        self._buffer = bytearray(_ROOM + CHUNK)
        self._view = memoryview(self._buffer)
        self._into = [self._view[_ROOM:]]
        self._time = 0.0  # epoch seconds, once a gate's loan was looked at in this round
        self._later: deque[End] = deque()  # who has received what has not been looked at yet
        self._woken = 0  # tasks, in this round

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0 or bool(self._calls)

    def fileno(self) -> int:
        """Return the descriptor that is readable when some socket is ready."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Give the epoll set back; nothing can be watched any more."""
        self._epoll.close()
        self._ends.clear()
        self._calls.clear()
        self._later.clear()
        self._count = 0

    @property
    def pending(self) -> bool:
        """Tell whether there is something to serve that the descriptor does not tell of."""
        return bool(self._later)

    def pairs(self) -> list[Pair]:
        """List the pairs that are watched."""
        return list({id(end.pair): end.pair for end in self._ends if end is not None}.values())

    def heed(self, number: int) -> None:
        """Watch a descriptor that is none of the sockets; `called` tells when it is readable."""
        self._epoll.register(number, _IN)
        self._make_room(number)
        self._caller = number

    def add(self, pair: Pair) -> None:
        """Watch a pair. Raises `OSError` or `ValueError` if the kernel does not want to."""
        for end in (pair.client, pair.backend):
            end.interest = _wanted(end)
            self._epoll.register(end.fd, end.interest)
            self._make_room(end.fd)
            self._ends[end.fd] = end
            self._count += 1

    def watch(self, number: int, interest: int, call: Callable[[], None]) -> None:
        """Call when a guest is of interest: a socket that is relayed later or never.

        It has to `forget` the guest then. Raises `OSError` or `ValueError`, as `add` does.
        """
        self._epoll.register(number, interest)
        self._make_room(number)
        self._calls[number] = call

    def forget(self, number: int) -> None:
        """Watch a guest no longer, if it is watched; before it is closed or relayed."""
        if self._calls.pop(number, None) is not None:
            self._epoll.unregister(number)

    def guests(self) -> list[Callable[[], None]]:
        """List what is called for guests."""
        return list(self._calls.values())

    def _make_room(self, number: int) -> None:
        """Let there be a place for this number among the ends."""
        if number >= len(self._ends):
            self._ends += [None] * (number + 1 - len(self._ends))

    def drop(self, pair: Pair) -> None:
        """Stop watching a pair, if it is watched; says nothing to anyone.

        Must come before its sockets are closed: their numbers may be in use again at once.
        """
        for end in (pair.client, pair.backend):
            if 0 <= end.fd < len(self._ends) and self._ends[end.fd] is end:
                self._ends[end.fd] = None
                self._count -= 1
                self._epoll.unregister(end.fd)
            if end.toll is not None:
                end.toll.gate.settle()

    def stay(self, seconds: float) -> bool:
        """Serve until this time is over, the road or a guest called, or a pair was let go.

        Returns whether anything happened at all.
        """
        busy = self.called = self.freed = False
        until = calls.now() + seconds
        while True:
            if self.serve(calls.MOST, seconds):
                busy = True
            if self.called or self.freed:
                return True
            seconds = until - calls.now()
            if seconds <= 0:
                return busy

    def serve(self, most: int, seconds: float = 0) -> int:
        """Serve at most so many of the sockets that are ready, each once; returns how many.

        When none is, wait for the first one, for so many seconds.
        """
        later = len(self._later)
        if later:
            seconds = 0
        count = calls.wait(self._number, self._epoll, self._ready, most, seconds)
        self._time = 0.0
        self._woken = 0
        for index in range(count):
            fd, event = self._ready[index]
            end = self._ends[fd]
            if end is None:
                # No socket, or one that was dropped in this round, together with its other end.
                if fd == self._caller:
                    self.called = True
                elif (call := self._calls.get(fd)) is not None:
                    if self._woken >= _WOKEN:
                        continue
                    call()
                    self._woken += 1
                    self.freed = True
                continue
            if self._woken >= _WOKEN:
                continue  # it will be told of again
            if event & _OUT and end.unsent and not self._flush(end):
                continue
            if event & ~_OUT:
                if end.other.unsent:
                    # Not being read: its end can wait until its last words have been taken, but
                    # it would be reported again and again.
                    if event & _GONE:
                        self._let_go(end)
                elif not end.lane.rest:
                    self._carry(end)
        return count + self._resume(later) if later else count

    def _resume(self, later: int) -> int:
        """Go on with what some received before, of so many who did; returns with how many."""
        later = min(later, RESUMED)
        for _ in range(later):
            end = self._later.popleft()
            end.queued = False
            if self._ends[end.fd] is end and not end.other.unsent:
                self._carry(end)
        return later

    def _postpone(self, end: End) -> None:
        """Let a socket go on later with what it received, once the other one can be sent to."""
        if not (end.queued or end.other.unsent):
            end.queued = True
            self._later.append(end)

    def _carry(self, end: End) -> None:
        """Read once from a socket, and send what may pass to the other one.

        If not all has been looked at that was read before, that comes in the place of a read.
        """
        data: bytes | bytearray = self._buffer
        view, lane = self._view, end.lane
        if lane.rest:
            data = lane.rest
            start, received, view = 0, len(data), memoryview(data)
        else:
            if end.tls is None:
                received = calls.receive(end.fd, self._buffer, self._into)
            else:
                received = self._decrypt(end)
            if received <= 0:
                if not received:
                    self._let_go(end)
                return
            start = _ROOM
            received += start
            if lane.held:
                start -= len(lane.held)
                self._buffer[start:_ROOM] = lane.held
        left = lane.need
        if end.toll is None:
            stop = lane.take(data, start, received, _LOOKS, False)
        else:
            stop = lane.take(data, start, received, self._at_once(end), True)
            if (
                stop > start
                and not self._is_free(end)
                and not self._fits(end, left, view[start:stop])
            ):
                self._screen(end, left, view[start:stop])
                return
        if stop > start:
            other = end.other
            if other.tls is None:
                sent = calls.transmit(other.fd, data, view, start, stop)
            else:
                sent = _encrypt(other.tls, view[start:stop])
            if sent < stop - start:
                other.unsent = bytes(view[start + max(sent, 0) : stop])
                if sent < 0:
                    self._let_go(end)
                    return
                self._expect(end)
                self._expect(other)
        if lane.over or lane.ending is not None or end.ended:
            self._let_go(end)
        elif lane.rest:
            self._postpone(end)

    def _at_once(self, end: End) -> int:
        """Return how many frames may be looked at: all that may pass without asking, or a few."""
        lent = 0
        if end.free_until > 0 and end.lane.messages < end.free_messages:
            lent = end.free_messages - end.lane.messages - 1
        return min(max(lent, _SCREENED), _LOOKS)

    def _is_free(self, end: End) -> bool:
        """Tell whether what was just received may pass without asking."""
        lane, toll = end.lane, end.toll
        assert toll is not None
        self._time = self._time or toll.clock()
        return (
            self._time < end.free_until
            and lane.messages < end.free_messages
            and lane.octets + lane.need <= end.free_octets
        )

    def _fits(self, end: End, left: int, data: memoryview) -> bool:
        """Ask the gate for all that was just looked at; what may pass is counted."""
        toll, now = end.toll, self._time
        assert toll is not None
        borrowed = end.free_until > 0
        messages, octets = end.repay()
        if toll.busy:
            return False
        if borrowed:
            if not toll.settle(messages, octets, now, data, left):
                return False
        elif not (messages or octets):
            return True
        elif not toll.gate.fits(messages, octets, now):
            return False
        toll.gate.lend(end, now)
        return True

    def _screen(self, end: End, left: int, data: memoryview) -> None:
        """Send on what may pass, message by message; the others are dropped, or have to wait."""
        toll, other = end.toll, end.other
        assert toll is not None
        other.unsent = toll.screen(data, left)
        if self._ends[end.fd] is not end:  # dropped: a limit has ended the connection
            self.freed = True
            return
        if other.unsent and not self._flush(other):
            return
        if end.lane.over or end.ended or toll.waiting:
            self._let_go(end)
            return
        self._expect(end)
        self._expect(other)
        if end.lane.rest:
            self._postpone(end)

    def _decrypt(self, end: End) -> int:
        """Read the records that are there, as many as there is room for; answer as `receive`.

        A second read is tried only behind a full record: bulk comes in rows of them. An end or
        an error that this read meets is off the socket then, so it is noted.
        """
        assert end.tls is not None
        received, got, room = 0, RECORD, self._into[0]
        while True:
            try:
                # What `recv_into` ends in: an integer, with a buffer given.
                got = end.tls.read(CHUNK, room)  # type: ignore[assignment]
            except ssl.SSLWantReadError:
                return received or -1
            except (OSError, ValueError):
                got = 0
            received += got
            if got != RECORD or received > CHUNK - RECORD:
                break
            room = self._view[_ROOM + received :]
        end.ended = not got
        return received

    def _flush(self, end: End) -> bool:
        """Send what is left for a socket; returns whether its pair is still watched."""
        view = memoryview(end.unsent)
        if end.tls is None:
            sent = calls.transmit(end.fd, end.unsent, view, 0, len(view))
        else:
            sent = _encrypt(end.tls, view)
        if sent < 0:
            self._let_go(end)
            return False
        end.unsent = end.unsent[sent:]
        if not end.unsent:
            self._expect(end)
            self._expect(end.other)
            if end.other.lane.rest:
                self._postpone(end.other)
        return True

    def _expect(self, end: End) -> None:
        """Watch a socket for what can be used of it just now."""
        wanted = _wanted(end)
        if wanted != end.interest:
            end.interest = wanted
            self._epoll.modify(end.fd, wanted)

    def _let_go(self, end: End) -> None:
        self._woken += 1
        self.freed = True
        self.drop(end.pair)
        end.pair.let_go()


def _wanted(end: End) -> int:
    return (0 if end.other.unsent else _IN) | (_OUT if end.unsent else 0)


def _encrypt(tls: ssl.SSLSocket, data: memoryview) -> int:
    """Write as much as the socket takes, record by record; answer as `transmit`."""
    sent, size, rest = 0, len(data), data
    while True:
        try:
            sent += tls.send(rest)
        except ssl.SSLWantWriteError:
            return sent
        except OSError:
            return sent or -1  # the next write will say so again
        if sent == size:
            return sent
        rest = data[sent:]
