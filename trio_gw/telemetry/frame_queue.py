"""Data frames that are to be reported one by one, until a task encodes and sends them.

The relay reports each frame when its header passes (`passed`). So this costs an append to a list,
wakes no task and never waits. If the queue is full, frames are dropped and counted. A limit that
drops a frame says so later (`refused`), and the frame is not reported.

Where a C compiler is available, this file is compiled; `frame_queue.pxd` declares the types.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

LIMIT = 32_768  # frames
TURN = 50  # frames of one direction that are taken before those of others


class FrameEncoder(Protocol):
    """Encodes the event of a frame. `timestamp` in milliseconds, `size` in payload bytes."""

    def encode(self, timestamp: int, size: int) -> bytes: ...


class FrameQueue:
    """All frames of one process that wait. `dropped` counts those that found it full."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.waiting = self.dropped = 0
        self._filled: deque[DirectionFrames] = deque()  # directions with frames

    def direction(self, encoder: FrameEncoder) -> DirectionFrames:
        """Make the part for one direction of a connection."""
        return DirectionFrames(self, encoder)

    def take(self, most: int, timestamp: int) -> list[bytes]:
        """Remove and encode frames, `most` of them at most."""
        events: list[bytes] = []
        while self._filled and len(events) < most:
            direction = self._filled.popleft()
            sizes = direction.take(min(TURN, most - len(events)))
            encode = direction.encoder.encode
            encoded = {size: encode(timestamp, size) for size in set(sizes)}
            events += [encoded[size] for size in sizes]
            if direction.sizes:
                self._filled.append(direction)
        return events

    def fill(self, direction: DirectionFrames) -> None:
        """Note that a direction has frames."""
        self._filled.append(direction)


class DirectionFrames:
    """The frames of one direction of a connection. `passed` is the `tap` of its lane."""

    __slots__ = ("_lost", "_queue", "_refusals", "_refused", "encoder", "sizes")

    def __init__(self, queue: FrameQueue, encoder: FrameEncoder) -> None:
        self.encoder = encoder
        self.sizes: list[int] = []  # of payloads; they include those of refused frames
        self._queue = queue
        self._refused: dict[int, int] = {}  # how many frames of a size are not to be reported
        self._refusals = 0  # the sum of those
        self._lost = 0  # frames that found the queue full, and may still be refused

    def passed(self, size: int, last: bool) -> None:
        """Add a frame."""
        queue = self._queue
        if queue.waiting >= queue.limit:
            queue.dropped += 1
            self._lost += 1
            return
        sizes = self.sizes
        if not sizes:
            queue.fill(self)
        queue.waiting += 1
        sizes.append(size)

    def refused(self, size: int) -> None:
        """Do not report a frame of this size that was added."""
        if self._lost:
            self._lost -= 1
            self._queue.dropped -= 1
        elif self._refusals < len(self.sizes):
            self._queue.waiting -= 1
            self._refused[size] = self._refused.get(size, 0) + 1
            self._refusals += 1
            if self._refusals == len(self.sizes):
                self._clear()

    def take(self, most: int) -> list[int]:
        """Remove the sizes of some frames that are to be reported."""
        self._lost = 0
        if not self._refusals:
            taken = self.sizes[:most]
            del self.sizes[:most]
            self._queue.waiting -= len(taken)
            return taken
        taken = []
        looked_at = 0
        for size in self.sizes:
            looked_at += 1
            if left := self._refused.get(size, 0):
                self._refused[size] = left - 1
                self._refusals -= 1
                continue
            taken.append(size)
            if len(taken) >= most:
                break
        del self.sizes[:looked_at]
        self._queue.waiting -= len(taken)
        if not self.sizes:
            self._clear()
        return taken

    def _clear(self) -> None:
        self.sizes.clear()
        self._refused.clear()
        self._refusals = 0
