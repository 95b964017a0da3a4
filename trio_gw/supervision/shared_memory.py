"""Integers that several processes share: one anonymous mmap, made before they are forked.

Each process has a column of its own and is the only one to write to it, but for two slots that
the supervisor writes. So there is nothing to lock: an aligned integer of 64 bits is read and
written whole. Anyone may read all columns. What the slots of a column mean is for the rooms that
use them to say (`Slot`); `width` may ask for more of them than are named here.
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
LOCK_TIMEOUT = 0.25  # seconds for which a process waits for the lock of another
_YIELDS, _PAUSE = 50, 0.0001  # times that the processor is left to others; then seconds between


class Slot(enum.IntEnum):
    """What each integer at the beginning of a column holds."""

    STATE = 0  # of the process: workers.shared_state.WorkerState
    TABLE = 1  # the first bits of the digest of the route table it serves
    OPEN = 2  # client connections now
    ACCEPTED = 3  # client connections ever
    FAILING = 4  # background parts that fail now, a bit for each
    MEMORY = 5  # bytes that are resident
    BEATS = 6  # of its event loop's heart, one a second
    SILENT = 7  # seconds for which it has missed them, if that is too long; by the supervisor
    KILLED = 8  # processes of this place that were killed for that; by the supervisor


class ProcessLock:
    """Held by one process at a time, in a `with`; a process that ends gives it back.

    One that is stopped does not, so nobody waits for longer than `LOCK_TIMEOUT`: who has waited in
    vain goes on without the lock, and does not wait again before it has been free once. So what
    is done under it must be safe without it, too, and only better with it.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("trio-gw-lock")
        self._held = False
        self._stuck = False  # the holder did not give it back in time
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
        """Try again until it is free. There is no such wait with a time-out in the system."""
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
    """`processes` columns of `width` integers each; all zero at first.

    One after the other they are the `cells`. `lock` is for who wants to look and write at once.
    """

    def __init__(self, processes: int, width: int = len(Slot)) -> None:
        assert processes > 0
        assert width >= len(Slot)
        self.processes = processes
        self.width = width
        # Shared and anonymous: gone with the last process that has it, however that one ends.
        self.cells = memoryview(mmap.mmap(-1, processes * width * BYTES)).cast("q")
        self.lock = ProcessLock() if processes > 1 else contextlib.nullcontext()

    def column(self, process: int) -> memoryview:
        """Return the integers of one process, to be written by that process alone."""
        start = range(self.processes)[process] * self.width
        return self.cells[start : start + self.width]

    def row(self, slot: int) -> list[int]:
        """Read one slot of every process, in their order."""
        return self.cells[range(self.width)[slot] :: self.width].tolist()

    def clear(self, process: int) -> None:
        """Set a column to zero; for who has seen its process end."""
        self.column(process)[:] = memoryview(bytes(self.width * BYTES)).cast("q")


_HEAD = struct.Struct("=QII")  # of a page: how often it was written, its length, its checksum


class Pages:
    """`count` pages of at most `size` bytes, each written by one process, read by anyone.

    A reader that meets a page in the middle of being written sees a wrong checksum, and looks
    again. Memory is used for what is written only.
    """

    def __init__(self, count: int, size: int = 4 << 20) -> None:
        self.count = count
        self.size = size
        self._step = _HEAD.size + size
        self._memory = mmap.mmap(-1, count * self._step)

    def write(self, page: int, data: bytes) -> None:
        """Replace what a page holds."""
        assert len(data) <= self.size
        start = range(self.count)[page] * self._step
        serial = _HEAD.unpack_from(self._memory, start)[0] + 1
        self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, start, serial, len(data), zlib.crc32(data))

    def read(self, page: int) -> bytes:
        """Return what a page holds; nothing if its writer died in the middle of writing."""
        start = range(self.count)[page] * self._step
        for _ in range(100):
            _, length, checksum = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + min(length, self.size)]
            if zlib.crc32(data) == checksum:
                return data
        return b""
