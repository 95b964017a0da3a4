"""What the console's server end still has to tell its page: bounded, and never waited for.

To a page that reads slowly frames are counted, not queued.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.portal.console_messages import SkippedEvent

if TYPE_CHECKING:
    from trio_gw.admin.websocket import WebSocket
    from trio_gw.portal.console_messages import FrameEvent, PageEvent

MOST = 256 << 10  # octets in the queue, of frames
OVERFLOW = 4 * MOST  # octets in the queue, of anything
BATCH = 64 << 10  # octets sent at once


class PageOutbox:
    """A queue of messages for one page."""

    def __init__(self) -> None:
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._frames = self._octets = 0  # skipped
        self._filled = trio.Event()
        self._ended = False
        self.overflown = False

    def tell(self, message: PageEvent) -> None:
        """Queue a message that must not be skipped."""
        self._report()
        self._put(msgspec.json.encode(message))

    def show(self, frame: FrameEvent) -> None:
        """Queue a frame if there is room; otherwise count it."""
        if self._size < MOST:
            data = msgspec.json.encode(frame)
            if not self._size or self._size + len(data) <= MOST:
                self._report()
                self._put(data)
                return
        self._frames += 1
        self._octets += frame.size

    def end(self) -> None:
        """Let `run` return when everything is sent."""
        self._ended = True
        self._filled.set()

    async def run(self, socket: WebSocket) -> None:
        """Send to the page until `end`. Raises `WebSocketClosedError`."""
        while True:
            if not self._queue:
                self._report()
            if not self._queue:
                if self._ended:
                    return
                self._filled = trio.Event()
                await self._filled.wait()
                continue
            batch, size = [], 0
            while self._queue and size < BATCH:
                batch.append(self._queue.popleft())
                size += len(batch[-1])
            await socket.send(*batch)
            self._size -= size

    def _report(self) -> None:
        if self._frames:
            skipped = SkippedEvent(self._frames, self._octets)
            self._frames = self._octets = 0
            self._put(msgspec.json.encode(skipped))

    def _put(self, data: bytes) -> None:
        if self._size + len(data) > OVERFLOW and self._size:
            self.overflown = True  # a page that asks for more than it reads
            return
        self._queue.append(data)
        self._size += len(data)
        self._filled.set()
