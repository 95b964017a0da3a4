"""Counters, pages and a lock that several processes share: anonymous mmaps, made before the fork.

Each process has a column of counters. Only this process writes to it, except for two slots that the
supervisor writes. So the counters need no lock: an aligned integer of 64 bits is read and written
as a whole. Every process may read all columns. `Slot` names the slots; other modules can use more
of them (`width`).
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import mmap
import os
import struct
import time
import weakref
import zlib

BYTES = 8  # of one integer
LOCK_TIMEOUT = 0.25  # seconds for which a process waits for a lock that another holds
_YIELDS, _PAUSE = 50, 0.0001  # first yields of the processor; then seconds between attempts


class Slot(enum.IntEnum):
    """The meaning of the first integers of a column."""

    STATE = 0  # of the process: workers.shared_state.WorkerState
    TABLE = 1  # the first bits of the digest of the route table it serves
    OPEN = 2  # client connections now
    ACCEPTED = 3  # client connections ever
    FAILING = 4  # background tasks that fail now, one bit each
    MEMORY = 5  # bytes that are resident
    BEATS = 6  # heartbeats of its event loop, one each second
    SILENT = 7  # seconds without heartbeats, if too many; written by the supervisor
    KILLED = 8  # processes killed for that; written by the supervisor


class ProcessLock:
    """A context manager that one process holds at a time. A process that ends releases it.

    A process that is stopped (SIGSTOP) does not release it, so no process waits longer than
    `LOCK_TIMEOUT`. After that it continues without the lock, and does not wait again until the
    lock was free once. So the code under the lock must also be safe without it.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("trio-gw-lock")
        self._held = False
        self._stuck = False  # the holder did not release it in time
        weakref.finalize(self, os.close, self._file)

    def __enter__(self) -> None:
        self._held = self._try() or (not self._stuck and self._wait())
        self._stuck = not self._held

    def __exit__(self, *_: object) -> None:
        if self._held:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _try(self) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
            return False
        return True

    def _wait(self) -> bool:
        """Try again until it is free. The system has no lock operation with a timeout."""
        for _ in range(_YIELDS):
            os.sched_yield()
            if self._try():
                return True
        until = time.monotonic() + LOCK_TIMEOUT
        while time.monotonic() < until:
            time.sleep(_PAUSE)
            if self._try():
                return True
        return False


class Counters:
    """`processes` columns of `width` integers each, all zero at first.

    The columns follow each other in `cells`. `lock` protects reading and writing in one step.
    """

    def __init__(self, processes: int, width: int = len(Slot)) -> None:
        assert processes > 0
        assert width >= len(Slot)
        self.processes = processes
        self.width = width
        # Shared and anonymous: the memory is freed when the last process ends, however it ends.
        self.cells = memoryview(mmap.mmap(-1, processes * width * BYTES)).cast("q")
        self.lock = ProcessLock() if processes > 1 else contextlib.nullcontext()

    def column(self, process: int) -> memoryview:
        """Return the integers of one process. Only this process may write to them."""
        start = range(self.processes)[process] * self.width
        return self.cells[start : start + self.width]

    def row(self, slot: int) -> list[int]:
        """Read one slot of every process, in order."""
        return self.cells[range(self.width)[slot] :: self.width].tolist()

    def clear(self, process: int) -> None:
        """Set a column to zero. Called after its process has ended."""
        self.column(process)[:] = memoryview(bytes(self.width * BYTES)).cast("q")


_HEAD = struct.Struct("=QII")  # of a page: number of writes, length, checksum


class Pages:
    """`count` pages of at most `size` bytes, each written by one process, read by anyone.

    If a reader reads a page while it is written, the checksum is wrong, and the reader tries again.
    Memory is only used for what is written.
    """

    def __init__(self, count: int, size: int = 4 << 20) -> None:
        self.count = count
        self.size = size
        self._step = _HEAD.size + size
        self._memory = mmap.mmap(-1, count * self._step)

    def write(self, page: int, data: bytes) -> None:
        """Replace the content of a page."""
        assert len(data) <= self.size
        start = range(self.count)[page] * self._step
        serial = _HEAD.unpack_from(self._memory, start)[0] + 1
        self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, start, serial, len(data), zlib.crc32(data))

    def read(self, page: int) -> bytes:
        """Return the content of a page; empty if its writer died while it was writing."""
        start = range(self.count)[page] * self._step
        for _ in range(100):
            _, length, checksum = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + min(length, self.size)]
            if zlib.crc32(data) == checksum:
                return data
        return b""
