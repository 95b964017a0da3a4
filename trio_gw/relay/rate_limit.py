"""The rate limit of one direction as the drivers use it: pass, drop, wait, or end the connection.

On the fast path (`epoll_loop`) the limiter is asked once for everything that was received. If much
of the limit is left, it grants a lease on more. Only what does not fit is judged message by
message, by a `Policer`. Messages that have to wait leave the fast path. Meanwhile one more chunk is
read, to notice a sender that leaves. Then TCP stops the sender, so at most two chunks wait in
memory. A sender that leaves gets some time for what waits. When the connection ends, nothing waits
any more: messages beyond the limit are dropped, so that the Close frame gets through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode
from trio_gw.relay.policer import Pause, Policer, count_frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio_gw.limiting import ChunkLimiter
    from trio_gw.relay.lane import Lane

    Bytes = bytes | bytearray | memoryview
    Send = Callable[[Bytes], Awaitable[None]]
    Left = Callable[[], Awaitable[float]]

LOOK_AGAIN = 60.0  # seconds


class RateLimit:
    """One direction. `clock` returns epoch seconds."""

    def __init__(self, limiter: ChunkLimiter, clock: Callable[[], float], *, masked: bool) -> None:
        self.limiter = limiter
        self.clock = clock
        self.policer = Policer(limiter, clock, masked=masked)
        self._masked = masked
        self.busy = False  # part of a dropped message is still to come
        self.waiting = b""  # fast path: passed by the lane, and not yet by the policer
        self._until = 0.0
        self._pausing = False

    @property
    def paused(self) -> bool:
        """Return whether a message waits for a window to end."""
        return self._pausing or bool(self.waiting)

    def bind(self, lane: Lane, lanes: Iterable[Lane]) -> None:
        """Set the lane that is limited, and the lanes that an exceeded limit may end."""
        self._lane = lane
        self._lanes = tuple(lanes)

    # -- on the fast path -----------------------------------------------------------------------

    def end_lease(self, messages: int, octets: int, now: float, data: Bytes, left: int) -> bool:
        """End a lease, and ask for what did not fit into it: `data`, which the lane has passed.

        `messages` and `octets` have passed since the lease began, those of `data` included. `data`
        begins with the last `left` bytes of a frame. Returns whether `data` may pass; then it is
        counted.
        """
        limiter = self.limiter
        lasts = now < limiter.until
        if lasts:
            # Within the same windows it does not matter when something is counted.
            limiter.end_lease(0, 0)
            if limiter.fits(messages, octets, now):
                return True
        ours = count_frames(data, left, masked=self._masked)
        before = messages - ours[0], octets - ours[1]
        if lasts:
            limiter.count(*before, now)
            return False
        limiter.end_lease(*before)
        return limiter.fits(*ours, now)

    def police(self, data: Bytes, left: int) -> bytes:
        """Return what may pass at once of `data`; the rest is dropped or `waiting`.

        `data` begins with the last `left` bytes of a frame.
        """
        if not self.busy:
            self.policer.resume(left)
        view = memoryview(data)
        passed: list[Bytes] = []
        for part in self.policer.feed(view):
            if not isinstance(part, Pause):
                passed.append(part)
            elif part.ending:
                self._close(part.ending)
            else:
                self.waiting = bytes(view[part.at :])
                self._until = part.until
                break
        self.busy = self.policer.dropping
        return b"".join(passed)

    # -- in a task -------------------------------------------------------------------------

    def limiting(self, send: Send, ended: trio.Event, left: Left) -> Send:
        """Return a function that takes what the lane passed, and gives `send` what may pass.

        `ended` is set when the connection ends. `left` is called while a message waits; it returns
        when the sender leaves, with the moment until which the message may still wait. What passed
        on the fast path is not judged again.
        """
        if not self.busy and not self.waiting:
            self.policer.resume(self._lane.need)

        async def send_limited(data: Bytes) -> None:
            for part in self.policer.feed(data):
                if isinstance(part, Pause):
                    await self._pause(part, ended, left)
                else:
                    await send(part)

        return send_limited

    def take_waiting(self) -> bytes:
        """Return what was `waiting`, to be sent with the function that `limiting` returned."""
        data, self.waiting = self.waiting, b""
        return data

    async def _pause(self, pause: Pause, ended: trio.Event, left: Left) -> None:
        if pause.ending:
            self._close(pause.ending)
        elif self._lane.ending is None and not ended.is_set():
            self._pausing = True
            self._until = pause.until
            try:
                if await self._wait_for_window(ended, left):
                    return
            finally:
                self._pausing = False
        self.policer.closing = True

    async def _wait_for_window(self, ended: trio.Event, left: Left) -> bool:
        """Wait for the next window. Returns False if the connection ends before that."""
        pause = max(self._until - self.clock(), 0)
        due = trio.current_time() + pause
        # Somebody may set the system clock meanwhile, which the windows follow.
        with trio.move_on_after(min(pause, LOOK_AGAIN)) as window:
            async with trio.open_nursery() as nursery:

                async def end() -> None:
                    await ended.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(end)
                if due <= await left():
                    await trio.sleep_forever()
                nursery.cancel_scope.cancel()
        return window.cancelled_caught

    def _close(self, reason: str) -> None:
        for lane in self._lanes:
            lane.end(CloseCode.POLICY, reason)
        self.policer.closing = True
