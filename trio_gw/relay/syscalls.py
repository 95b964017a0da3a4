"""The system calls of the relay: on plain sockets that do not block, and the wait for them.

This is what they are in Python. Where the relay is compiled, `syscalls.pxd` takes its place, with
the same functions calling the C library.
"""

from __future__ import annotations

import os
from time import monotonic as now
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import select

__all__ = ["MAX_EVENTS", "now", "receive", "transmit", "wait"]

MAX_EVENTS = 256  # sockets that one wait tells of
Ready = list[tuple[int, int]]  # their numbers, and for what they are ready


def wait(number: int, epoll: select.epoll, ready: Ready, most: int, seconds: float) -> int:
    """Wait so long for sockets of this set, put those that are ready into `ready`; how many."""
    ready[:] = epoll.poll(seconds, most)
    return len(ready)


def receive(fd: int, buffer: bytearray, room: list[memoryview]) -> int:
    """Read once into `room`, the end of `buffer`; 0 at the end or on an error, -1 for not yet."""
    try:
        return os.readv(fd, room)
    except BlockingIOError:
        return -1
    except OSError:
        return 0


def transmit(fd: int, data: bytes | bytearray, view: memoryview, start: int, stop: int) -> int:
    """Write `data[start:stop]`, of which `view` is a view; -1 when that can never succeed."""
    try:
        return os.write(fd, view[start:stop])
    except BlockingIOError:
        return 0
    except OSError:
        return -1
