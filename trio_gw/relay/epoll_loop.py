"""Serve the sockets that are ready: read, scan, send on. This file knows no tasks.

One epoll set holds both sockets of every pair. Each is registered once and level-triggered, so
nothing is lost if something is left for the next round. All reads share one buffer. Only the bytes
that a socket did not take (`unsent`, at most one chunk) are copied and kept. Until they are sent,
the socket that they came from is not read: TCP itself provides the backpressure.

If a direction is limited, its limiter is asked once for everything that was received, unless a
lease covers it. Only if that does not fit, or if part of the last message was dropped, each message
is judged (`rate_limit`).

No connection delays the others, whatever its bytes are. In one turn only a certain number of frames
is scanned. The rest stays on the lane; in each of the next rounds a few of the postponed sockets
continue, one after the other, after all sockets that are ready. A round wakes only a few tasks,
because tasks that are woken together run together.

TLS is read and written here too, by OpenSSL on the same sockets. A read always has room for a whole
record, so nothing decrypted stays inside OpenSSL, where epoll does not see it.

Anything but plain relaying (an end, an error, a lane that halts, a message that has to wait) is not
handled here. The pair is released, and its `on_release` is called. Nothing is lost by that: an end
or an error shows again at the next read or write, and received bytes are on the lane, in `unsent`,
or wait for the limiter.

Where a C compiler is available, this file is compiled; `epoll_loop.pxd` declares the types.
"""

from __future__ import annotations

import select
import ssl
from collections import deque
from typing import TYPE_CHECKING

from trio_gw.relay import syscalls
from trio_gw.relay.lane import FRAMES_PER_TURN, MAX_HELD
from trio_gw.relay.sizes import CHUNK, RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.relay.pair import End, Pair

_ROOM = MAX_HELD  # in front of what is read, for the bytes that a lane held back
LIMITED_FRAMES_PER_TURN = 64  # messages judged one by one in one turn
_FRAMES_PER_TURN, _LIMITED_FRAMES_PER_TURN = FRAMES_PER_TURN, LIMITED_FRAMES_PER_TURN
RESUMED = 4  # postponed sockets served in one round
_WOKEN = 16  # tasks woken in one round

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_HANGUP = select.EPOLLHUP | select.EPOLLERR  # always reported


class Poller:
    """All pairs that are being relayed, in one epoll set. Callbacks can watch other sockets."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._number = self._epoll.fileno()
        self._ready: syscalls.Ready = [(0, 0) for _ in range(syscalls.MAX_EVENTS)]
        self._ends: list[End | None] = []  # by descriptor
        self._count = 0
        self._callbacks: dict[int, Callable[[], None]] = {}  # of watched sockets, by descriptor
        self._trio_fd = -1  # Trio's epoll set
        self.trio_ready = False  # `_trio_fd` was ready
        self.tasks_woken = False  # Trio has tasks to run
        self._buffer = bytearray(_ROOM + CHUNK)
        self._view = memoryview(self._buffer)
        self._into = [self._view[_ROOM:]]
        self._time = 0.0  # epoch seconds, read at most once in a round
        self._postponed: deque[End] = deque()  # have received bytes that no lane has scanned yet
        self._woken = 0  # tasks woken in this round

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0 or bool(self._callbacks)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a socket is ready."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll set."""
        self._epoll.close()
        self._ends.clear()
        self._callbacks.clear()
        self._postponed.clear()
        self._count = 0

    @property
    def pending(self) -> bool:
        """Return whether there is work that does not make the descriptor readable."""
        return bool(self._postponed)

    def pairs(self) -> list[Pair]:
        """List the registered pairs."""
        return list({id(end.pair): end.pair for end in self._ends if end is not None}.values())

    def watch_external(self, number: int) -> None:
        """Watch Trio's epoll set; `trio_ready` is set when it is readable."""
        self._epoll.register(number, _IN)
        self._reserve(number)
        self._trio_fd = number

    def register(self, pair: Pair) -> None:
        """Watch a pair. Raises `OSError` or `ValueError` if the kernel refuses."""
        for end in (pair.client, pair.backend):
            end.interest = _interest(end)
            self._epoll.register(end.fd, end.interest)
            self._reserve(end.fd)
            self._ends[end.fd] = end
            self._count += 1

    def watch(self, number: int, interest: int, call: Callable[[], None]) -> None:
        """Call when a socket that is not relayed is ready.

        The callback has to `unwatch` it. Raises `OSError` or `ValueError`, as `register` does.
        """
        self._epoll.register(number, interest)
        self._reserve(number)
        self._callbacks[number] = call

    def unwatch(self, number: int) -> None:
        """Stop watching a socket, if it is watched. Call this before it is closed or relayed."""
        if self._callbacks.pop(number, None) is not None:
            self._epoll.unregister(number)

    def callbacks(self) -> list[Callable[[], None]]:
        """List the callbacks of watched sockets."""
        return list(self._callbacks.values())

    def _reserve(self, number: int) -> None:
        """Make `_ends` long enough for this descriptor."""
        if number >= len(self._ends):
            self._ends += [None] * (number + 1 - len(self._ends))

    def unregister(self, pair: Pair) -> None:
        """Stop watching a pair, if it is watched; `on_release` is not called.

        Call this before its sockets are closed: their numbers may be used again at once.
        """
        for end in (pair.client, pair.backend):
            if 0 <= end.fd < len(self._ends) and self._ends[end.fd] is end:
                self._ends[end.fd] = None
                self._count -= 1
                self._epoll.unregister(end.fd)
            if end.rate_limit is not None:
                end.rate_limit.limiter.reclaim_lease()

    def run_until(self, seconds: float) -> bool:
        """Serve until the time is over, or Trio has something to do.

        Trio has something to do when its epoll set is ready, a pair was released, or a callback was
        called. Returns whether anything happened at all.
        """
        busy = self.trio_ready = self.tasks_woken = False
        until = syscalls.now() + seconds
        while True:
            if self.poll_once(syscalls.MAX_EVENTS, seconds):
                busy = True
            if self.trio_ready or self.tasks_woken:
                return True
            seconds = until - syscalls.now()
            if seconds <= 0:
                return busy

    def poll_once(self, most: int, seconds: float = 0) -> int:
        """Serve ready sockets, each once and `most` of them; returns how many.

        If none is ready, wait for the first one, at most `seconds`.
        """
        later = len(self._postponed)
        if later:
            seconds = 0
        count = syscalls.wait(self._number, self._epoll, self._ready, most, seconds)
        self._time = 0.0
        self._woken = 0
        for index in range(count):
            fd, event = self._ready[index]
            end = self._ends[fd]
            if end is None:
                # No socket of a pair, or one whose pair was released in this round.
                if fd == self._trio_fd:
                    self.trio_ready = True
                elif (call := self._callbacks.get(fd)) is not None:
                    if self._woken >= _WOKEN:
                        continue
                    call()
                    self._woken += 1
                    self.tasks_woken = True
                continue
            if self._woken >= _WOKEN:
                continue  # epoll reports it again
            try:
                self._serve(end, event)
            except MemoryError:
                self._fail(end)
        return count + self._resume(later) if later else count

    def _resume(self, later: int) -> int:
        """Continue with some of the `later` postponed sockets; returns with how many."""
        later = min(later, RESUMED)
        for _ in range(later):
            end = self._postponed.popleft()
            end.queued = False
            if self._ends[end.fd] is end and not end.other.unsent:
                try:
                    self._forward(end)
                except MemoryError:
                    self._fail(end)
        return later

    def _serve(self, end: End, event: int) -> None:
        """Send and receive as epoll says."""
        if event & _OUT and end.unsent and not self._flush(end):
            return
        if event & ~_OUT:
            if end.other.unsent:
                # It is not read now. Its end can wait until the other socket has taken what it
                # sent, but epoll would report it again and again.
                if event & _HANGUP:
                    self._release(end)
            elif not end.lane.rest:
                self._forward(end)

    def _fail(self, end: End) -> None:
        """Release a pair that has lost bytes: there was no memory to store them."""
        end.pair.failed = True
        if self._ends[end.fd] is end:
            self._release(end)

    def _postpone(self, end: End) -> None:
        """Continue later with what a socket received, once the other socket takes bytes."""
        if not (end.queued or end.other.unsent):
            end.queued = True
            self._postponed.append(end)

    def _forward(self, end: End) -> None:
        """Read once from a socket, and send what may pass to the other one.

        If the lane has not scanned all that was read before, it continues with that instead.
        """
        data: bytes | bytearray = self._buffer
        view, lane = self._view, end.lane
        if lane.rest:
            data = lane.rest
            start, received, view = 0, len(data), memoryview(data)
        else:
            if end.tls is None:
                received = syscalls.receive(end.fd, self._buffer, self._into)
            else:
                received = self._decrypt(end)
            if received <= 0:
                if not received:
                    self._release(end)
                return
            start = _ROOM
            received += start
            if lane.held:
                start -= len(lane.held)
                self._buffer[start:_ROOM] = lane.held
        left = lane.need
        if end.rate_limit is None:
            stop = lane.take(data, start, received, _FRAMES_PER_TURN, False)
        else:
            stop = lane.take(data, start, received, self._at_once(end), True)
            if (
                stop > start
                and not self._is_free(end)
                and not self._fits(end, left, view[start:stop])
            ):
                self._police(end, left, view[start:stop])
                return
        if stop > start:
            other = end.other
            if other.tls is None:
                sent = syscalls.transmit(other.fd, data, view, start, stop)
            else:
                sent = _encrypt(other.tls, view[start:stop])
            if sent < stop - start:
                other.unsent = bytes(view[start + max(sent, 0) : stop])
                if sent < 0:
                    self._release(end)
                    return
                self._update_interest(end)
                self._update_interest(other)
        if lane.over or lane.ending is not None or end.ended:
            self._release(end)
        elif lane.rest:
            self._postpone(end)

    def _at_once(self, end: End) -> int:
        """Return how many frames to scan: those that the lease covers, or a few."""
        lent = 0
        if end.free_until > 0 and end.lane.messages < end.free_messages:
            lent = end.free_messages - end.lane.messages - 1
        return min(max(lent, _LIMITED_FRAMES_PER_TURN), _FRAMES_PER_TURN)

    def _is_free(self, end: End) -> bool:
        """Return whether the lease covers what was just received."""
        lane, rate_limit = end.lane, end.rate_limit
        assert rate_limit is not None
        self._time = self._time or rate_limit.clock()
        return (
            self._time < end.free_until
            and lane.messages < end.free_messages
            and lane.octets + lane.need <= end.free_octets
        )

    def _fits(self, end: End, left: int, data: memoryview) -> bool:
        """Ask the limiter for everything that was just scanned; what may pass is counted."""
        rate_limit, now = end.rate_limit, self._time
        assert rate_limit is not None
        borrowed = end.free_until > 0
        messages, octets = end.release_lease()
        if rate_limit.busy:
            return False
        if borrowed:
            if not rate_limit.end_lease(messages, octets, now, data, left):
                return False
        elif not (messages or octets):
            return True
        elif not rate_limit.limiter.fits(messages, octets, now):
            return False
        rate_limit.limiter.lease(end, now)
        return True

    def _police(self, end: End, left: int, data: memoryview) -> None:
        """Send the messages that may pass; the others are dropped or have to wait."""
        rate_limit, other = end.rate_limit, end.other
        assert rate_limit is not None
        other.unsent = rate_limit.police(data, left)
        if self._ends[end.fd] is not end:  # released: a limit has ended the connection
            self.tasks_woken = True
            return
        if other.unsent and not self._flush(other):
            return
        if end.lane.over or end.ended or rate_limit.waiting:
            self._release(end)
            return
        self._update_interest(end)
        self._update_interest(other)
        if end.lane.rest:
            self._postpone(end)

    def _decrypt(self, end: End) -> int:
        """Read the records that have arrived, as far as the buffer goes; returns as `receive`.

        A second read is tried only after a full record, because bulk data comes in full records. An
        end or an error that this read meets does not show in epoll again, so `ended` notes it.
        """
        assert end.tls is not None
        received, got, room = 0, RECORD, self._into[0]
        while True:
            try:
                # `recv_into` calls this. With a buffer it returns an integer.
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
        """Send what a socket did not take before; returns whether its pair is still watched."""
        view = memoryview(end.unsent)
        if end.tls is None:
            sent = syscalls.transmit(end.fd, end.unsent, view, 0, len(view))
        else:
            sent = _encrypt(end.tls, view)
        if sent < 0:
            self._release(end)
            return False
        end.unsent = end.unsent[sent:]
        if not end.unsent:
            self._update_interest(end)
            self._update_interest(end.other)
            if end.other.lane.rest:
                self._postpone(end.other)
        return True

    def _update_interest(self, end: End) -> None:
        """Watch a socket for the events that can be served now."""
        wanted = _interest(end)
        if wanted != end.interest:
            end.interest = wanted
            self._epoll.modify(end.fd, wanted)

    def _release(self, end: End) -> None:
        self._woken += 1
        self.tasks_woken = True
        self.unregister(end.pair)
        end.pair.on_release()


def _interest(end: End) -> int:
    return (0 if end.other.unsent else _IN) | (_OUT if end.unsent else 0)


def _encrypt(tls: ssl.SSLSocket, data: memoryview) -> int:
    """Write as much as the socket takes, record by record; returns as `transmit`."""
    sent, size, rest = 0, len(data), data
    while True:
        try:
            sent += tls.send(rest)
        except ssl.SSLWantWriteError:
            return sent
        except OSError:
            return sent or -1  # the next write fails in the same way
        if sent == size:
            return sent
        rest = data[sent:]
