"""The two system calls of the relay, on plain sockets that do not block.

This is what they are in Python. Where the relay is compiled, `calls.pxd` takes its place, with
the same two functions calling the C library.
"""

from __future__ import annotations

import os


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
