"""The gate of one direction as the drivers meet it: pass, drop, wait, or end the connection.

A `Sieve` decides; what it holds up waits here. Nothing is read meanwhile, so TCP holds up the
sender, and at most one chunk waits in memory. A connection that ends waits for nobody: what is
over the limit then is dropped, so that the Close frame gets through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode
from trio_gw.relay.sieve import Hold, Sieve
from trio_gw.wire.frames import ViolationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.sieve import Gate

    Bytes = bytes | bytearray | memoryview
    Send = Callable[[Bytes], Awaitable[None]]

LOOK_AGAIN = 60.0  # seconds: the clock that the windows follow may be set meanwhile


class Toll:
    """One direction. `clock` tells epoch seconds; `most` bytes in a message, 0 for any number."""

    def __init__(
        self, gate: Gate | None, clock: Callable[[], float], *, masked: bool, most: int = 0
    ) -> None:
        self.sieve = Sieve(gate, clock, masked=masked, most=most)
        self.holding = False  # something waits for a window to end
        self._clock = clock

    def begin(self, lane: Lane, lanes: Iterable[Lane], ended: trio.Event) -> None:
        """Learn whose messages these are, what to end, and what tells that it is over."""
        self._lane = lane
        self._lanes = tuple(lanes)
        self._ended = ended

    def guarding(self, send: Send) -> Send:
        """Return what takes what the lane passed, and gives `send` what may pass."""

        async def pay(data: Bytes) -> None:
            try:
                for part in self.sieve.feed(data):
                    if isinstance(part, Hold):
                        await self._hold(part)
                    else:
                        await send(part)
            except ViolationError as violation:
                self._lane.violate(violation)

        return pay

    async def _hold(self, hold: Hold) -> None:
        if hold.ending:
            for lane in self._lanes:
                lane.end(CloseCode.POLICY, hold.ending)
        elif self._lane.ending is None and not self._ended.is_set():
            self.holding = True
            try:
                with trio.move_on_after(min(max(hold.until - self._clock(), 0), LOOK_AGAIN)):
                    await self._ended.wait()
            finally:
                self.holding = False
            if not self._ended.is_set():
                return
        self.sieve.closing = True
