"""The gate of one direction as the drivers meet it: pass, drop, wait, or end the connection.

On the road (`turn`) a gate is asked once for all that was received, and only where that does not
fit into the limit message by message: a `Sieve` decides. What it holds up waits here. Nothing is
read meanwhile, so TCP holds up the sender, and at most one chunk waits in memory. A connection
that ends waits for nobody: what is over the limit then is dropped, so that the Close frame gets
through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode
from trio_gw.relay.sieve import Hold, Sieve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.sieve import Gate

    Bytes = bytes | bytearray | memoryview
    Send = Callable[[Bytes], Awaitable[None]]

LOOK_AGAIN = 60.0  # seconds: the clock that the windows follow may be set meanwhile


class Toll:
    """One direction. `clock` tells epoch seconds."""

    def __init__(self, gate: Gate, clock: Callable[[], float], *, masked: bool) -> None:
        self.gate = gate
        self.clock = clock
        self.sieve = Sieve(gate, clock, masked=masked)
        self.busy = False  # the sieve knows of a message that does not pass, or has to
        self.waiting = b""  # on the road: what the lane has passed, and the sieve not yet
        self._until = 0.0
        self._pausing = False

    @property
    def holding(self) -> bool:
        """Tell whether something waits for a window to end."""
        return self._pausing or bool(self.waiting)

    def begin(self, lane: Lane, lanes: Iterable[Lane]) -> None:
        """Learn whose messages these are, and what to end."""
        self._lane = lane
        self._lanes = tuple(lanes)

    # -- on the road -----------------------------------------------------------------------

    def screen(self, data: Bytes, left: int) -> bytes:
        """Return what may pass at once of what the lane passed; the rest is dropped or `waiting`.

        `left` is what was to come of the frame under way before this.
        """
        if not self.busy:
            self.sieve.resume(left)
        view, passed = memoryview(data), []
        for part in self.sieve.feed(view):
            if not isinstance(part, Hold):
                passed.append(part)
            elif part.ending:
                self._end(part.ending)
            else:
                self.waiting = bytes(view[part.at :])
                self._until = part.until
                break
        self.busy = self.sieve.dropping
        return b"".join(passed)

    def again(self) -> bytes:
        """Return what may pass by now of what waits."""
        data, self.waiting = self.waiting, b""
        return self.screen(data, 0)

    def pause(self) -> float:
        """Return for how many seconds there is no use in trying `again`."""
        return min(max(self._until - self.clock(), 0), LOOK_AGAIN)

    # -- in a task -------------------------------------------------------------------------

    def guarding(self, send: Send, ended: trio.Event) -> Send:
        """Return what takes what the lane passed, and gives `send` what may pass.

        `ended` tells that the connection is over. What passed on the road is behind it.
        """
        if not self.busy and not self.waiting:
            self.sieve.resume(self._lane.left())

        async def pay(data: Bytes) -> None:
            for part in self.sieve.feed(data):
                if isinstance(part, Hold):
                    await self._hold(part, ended)
                else:
                    await send(part)

        return pay

    def take_waiting(self) -> bytes:
        """Return what was `waiting` on the road, to be sent through what `guarding` returned."""
        data, self.waiting = self.waiting, b""
        return data

    async def _hold(self, hold: Hold, ended: trio.Event) -> None:
        if hold.ending:
            self._end(hold.ending)
        elif self._lane.ending is None and not ended.is_set():
            self._pausing = True
            self._until = hold.until
            try:
                with trio.move_on_after(self.pause()):
                    await ended.wait()
            finally:
                self._pausing = False
            if not ended.is_set():
                return
        self.sieve.closing = True

    def _end(self, reason: str) -> None:
        for lane in self._lanes:
            lane.end(CloseCode.POLICY, reason)
        self.sieve.closing = True
