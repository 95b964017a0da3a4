"""The limiter of one direction as the drivers meet it: pass, drop, wait, or end the connection.

On the road (`turn`) a limiter is asked once for all that was received, or for more than that where
there is much room, and only where it does not fit into the limit message by message: a `Policer`
decides. What it holds up waits here, off the road. Meanwhile a chunk more is read, to see whether
the sender leaves; then TCP holds up the sender, so that at most two chunks wait in memory. Who
leaves is given some time for what waits. A connection that ends waits for nobody: what is over the
limit then is dropped, so that the Close frame gets through.
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
    """One direction. `clock` tells epoch seconds."""

    def __init__(self, limiter: ChunkLimiter, clock: Callable[[], float], *, masked: bool) -> None:
        self.limiter = limiter
        self.clock = clock
        self.policer = Policer(limiter, clock, masked=masked)
        self._masked = masked
        self.busy = False  # the sieve knows of a message that does not pass, or has to
        self.waiting = b""  # on the road: what the lane has passed, and the sieve not yet
        self._until = 0.0
        self._pausing = False

    @property
    def paused(self) -> bool:
        """Tell whether something waits for a window to end."""
        return self._pausing or bool(self.waiting)

    def bind(self, lane: Lane, lanes: Iterable[Lane]) -> None:
        """Learn whose messages these are, and what to end."""
        self._lane = lane
        self._lanes = tuple(lanes)

    # -- on the road -----------------------------------------------------------------------

    def end_lease(self, messages: int, octets: int, now: float, data: Bytes, left: int) -> bool:
        """End a lease, and ask for what did not fit into it: `data`, which the lane has passed.

        So many messages with so many octets have passed since it began, those of `data` included;
        `left` was to come of the frame under way before that. Returns whether `data` may pass;
        if so it is counted.
        """
        limiter = self.limiter
        lasts = now < limiter.until
        if lasts:
            # In the same windows it makes no difference when something was counted.
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
        """Return what may pass at once of what the lane passed; the rest is dropped or `waiting`.

        `left` is what was to come of the frame under way before this.
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
        """Return what takes what the lane passed, and gives `send` what may pass.

        `ended` tells that the connection is over; `left` is asked while something waits, and
        returns when its sender leaves: the moment until which there is time for that. What passed
        on the road is behind it.
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
        """Return what was `waiting` on the road, to be sent through what `limiting` returned."""
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
        """Wait until the limiter may be asked again; or tell that the connection ends before."""
        pause = max(self._until - self.clock(), 0)
        due = trio.current_time() + pause
        # The clock that the windows follow may be set meanwhile.
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
