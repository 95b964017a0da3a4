"""Writes lines to standard error or standard output. Callers never wait for the reader.

A pipe without a reader, a stopped terminal and a full disk make `write` block or fail. So a thread
writes (`background`), and lines wait for it in a bounded queue. Lines that do not fit are dropped
and counted, and a notice stands where they are missing. Without the thread (while a process starts,
ends or forks others) a line is written at once, or dropped.

Standard streams are shared with other processes, so `O_NONBLOCK` is never set on them. A pipe or a
terminal is opened a second time, and a socket is written to with `MSG_DONTWAIT`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import stat
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Write = Callable[[memoryview], int]

QUEUE = 1 << 20  # octets of queued lines
LINGER = 0.01  # seconds to wait for more lines: waking the thread costs more than a line
WRITE_TIMEOUT = 0.2  # seconds for a line without the thread
FLUSH = 1.0  # seconds for the thread at the end
PAUSE = 0.1  # seconds between two attempts
CHUNK = 4096  # PIPE_BUF: lines of several processes on one pipe do not mix up to this size

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))  # space can become free again, so lines are kept


class LineWriter:
    """Writes whole lines to a stream. `notice(count)` makes the line about lost lines.

    With `aside` the notice is written elsewhere, when lines can be written again.
    """

    def __init__(
        self, stream: TextIO | None, notice: Callable[[int], bytes], *, aside: bool = False
    ) -> None:
        self._aside = aside
        self._sink = _open(stream)
        self._notice = notice
        self._lock = threading.Lock()
        self._wake = threading.Lock()  # released when the first line is queued
        self._wake.acquire()
        self._thread: threading.Thread | None = None
        self._waiting: list[bytes] = []
        self._octets = 0  # in the queue
        self._overflow = 0  # lines lost since the thread last checked
        self._unreported = 0  # lines lost before, not yet in a notice
        self._stopping = False
        self._stop_at = 0.0  # when the thread gives up
        self._hung = False
        self._torn = False  # part of a line was written, the rest was dropped
        self.dropped = 0

    def put(self, line: bytes) -> None:
        """Queue or write one line, with its line end."""
        with self._lock:
            if self._thread is None:
                self._write_now(line)
            elif self._overflow or self._octets + len(line) > QUEUE:
                self._overflow += 1
                self.dropped += 1
            else:
                if not self._waiting:
                    self._wake.release()
                self._waiting.append(line)
                self._octets += len(line)

    @contextlib.contextmanager
    def background(self) -> Iterator[None]:
        """Write in a thread while the context lasts; then write what is queued, within `FLUSH`."""
        thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._wake.acquire(blocking=False)
        self._stopping = False
        self._thread = thread
        thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._stop_at = time.monotonic() + FLUSH
                self._stopping = True
                if not self._waiting:
                    self._wake.release()
            thread.join(FLUSH + 3 * PAUSE)
            with self._lock:
                self._hung = thread.is_alive()  # a file system does not respond
                self._thread = None
                late, self._waiting, self._octets = self._waiting, [], 0
                for line in late:
                    self._write_now(line)

    def close(self) -> None:
        """Close what was opened here; the stream itself stays open."""
        self._sink.close()

    # -- without the thread ----------------------------------------------------------------

    def _write_now(self, line: bytes) -> None:
        # After one timeout, do not wait again until a write has succeeded.
        until = 0.0 if self._unreported else time.monotonic() + WRITE_TIMEOUT
        # In one write, or there could be room for the notice but not for the line.
        first = self._notice(self._unreported) if self._unreported and not self._aside else b""
        if self._hung or not self._send(first + line, lambda: until):
            self._unreported += 1
            self.dropped += 1
        else:
            self._reset_lost()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.acquire()
            if not self._stopping:
                time.sleep(LINGER)
            with self._lock:
                stopping = self._stopping
                lines, self._waiting, self._octets = self._waiting, [], 0
                overflow, self._overflow = self._overflow, 0
            lost = self._deliver(lines)
            with self._lock:
                self.dropped += lost
            self._unreported += lost + overflow
            if not lost and self._write_notice():
                self._reset_lost()

    def _deliver(self, lines: Sequence[bytes]) -> int:
        """Write lines, several at a time if they fit; return how many were lost."""
        written = 0
        while written < len(lines):
            size, end = len(lines[written]), written + 1
            while end < len(lines) and size + len(lines[end]) <= CHUNK:
                size += len(lines[end])
                end += 1
            data = b"".join(lines[written:end])
            if not (self._write_notice() and self._send(data, self._deadline)):
                return len(lines) - written
            self._reset_lost()
            written = end
        return 0

    def _deadline(self) -> float:
        return self._stop_at if self._stopping else math.inf

    def _write_notice(self) -> bool:
        """Write the notice about lost lines, if there are any; False if that fails."""
        if not self._unreported or self._aside:
            return True
        if not self._send(self._notice(self._unreported), self._deadline):
            return False
        self._unreported = 0
        return True

    # -- both ------------------------------------------------------------------------------

    def _reset_lost(self) -> None:
        """Reset the count of lost lines: lines can be written again."""
        count, self._unreported = self._unreported, 0
        if count and self._aside:
            self._notice(count)

    def _send(self, data: bytes, until: Callable[[], float]) -> bool:
        """Try until the data is written, writing is impossible, or the (monotonic) time is over."""
        rest = memoryview(b"\n" + data if self._torn else data)
        whole = len(rest)
        while rest:
            wait: Callable[[float], object] | None
            try:
                rest = rest[self._sink.write(rest) :]
                continue
            except BlockingIOError:
                wait = self._sink.wait
            except (OSError, ValueError) as error:
                full = isinstance(error, OSError) and error.errno in _FULL
                wait = time.sleep if full else None
            left = until() - time.monotonic()
            if wait is None or left <= 0:
                self._torn = self._torn or len(rest) < whole
                return False
            wait(min(left, PAUSE))
        self._torn = False
        return True


class _Sink(NamedTuple):
    """The destination of octets. `write` raises BlockingIOError instead of blocking."""

    write: Write
    wait: Callable[[float], object]
    close: Callable[[], object]


def _open(stream: TextIO | None) -> _Sink:
    """Find a way to write to a stream without blocking, if the system has one."""
    if stream is None:  # its descriptor was closed when this program started
        return _Sink(len, time.sleep, _nothing)
    try:
        fd = stream.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError):  # io.UnsupportedOperation is both: not a file of the system
        return _Sink(partial(_write_text, stream), time.sleep, _nothing)
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(fd))
        return _Sink(lambda data: sock.send(data, socket.MSG_DONTWAIT), _waiting(fd), sock.close)
    if not (stat.S_ISFIFO(mode) or os.isatty(fd)):
        return _Sink(partial(os.write, fd), time.sleep, _nothing)
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        own = os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:  # no `/proc`, or a pipe or terminal of another user
        return _Sink(partial(_write_if_ready, fd), _waiting(fd), _nothing)
    return _Sink(partial(os.write, own), _waiting(own), partial(os.close, own))


def _nothing() -> None:
    pass


def _write_text(stream: TextIO, data: memoryview) -> int:
    stream.write(bytes(data).decode())
    stream.flush()
    return len(data)


def _write_if_ready(fd: int, data: memoryview) -> int:
    """Write at most what a pipe that is ready accepts at once."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(fd, data[:CHUNK])


def _waiting(fd: int) -> Callable[[float], object]:
    def wait(seconds: float) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.poll(max(1, int(seconds * 1000)))

    return wait
