"""The system calls of the relay: on plain sockets that do not block, and the wait for them.

This is the Python form. Where the relay is compiled, `syscalls.pxd` replaces it, with the same
functions calling the C library.
"""

from __future__ import annotations

import os
from time import monotonic as now
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import select

__all__ = ["MAX_EVENTS", "now", "receive", "transmit", "wait"]

MAX_EVENTS = 256  # sockets that one wait reports
Ready = list[tuple[int, int]]  # descriptors and their events


def wait(number: int, epoll: select.epoll, ready: Ready, most: int, seconds: float) -> int:
    """Wait for sockets of this epoll set, and put the ready ones into `ready`; returns how many."""
    ready[:] = epoll.poll(seconds, most)
    return len(ready)


def receive(fd: int, buffer: bytearray, room: list[memoryview]) -> int:
    """Read once into `room`, the end of `buffer`; 0 means an end or an error, -1 not yet."""
    try:
        return os.readv(fd, room)
    except BlockingIOError:
        return -1
    except OSError:
        return 0


def transmit(fd: int, data: bytes | bytearray, view: memoryview, start: int, stop: int) -> int:
    """Write `data[start:stop]`; `view` is a view of `data`. Returns -1 if it can never succeed."""
    try:
        return os.write(fd, view[start:stop])
    except BlockingIOError:
        return 0
    except OSError:
        return -1
