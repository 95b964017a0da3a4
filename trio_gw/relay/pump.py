"""Drive two lanes over any pair of Trio streams: a task per direction.

`carry` is what `proxy.connection` calls once the upgrade is done. It returns when both sides
are closed, with the `Ending` that says who ended the connection and how. Backpressure is TCP's
own: a direction reads its next chunk only when the last one has been taken by the other side,
so memory is one chunk per direction however slow a peer is; and one more where something waits at
a limiter, for its sender's Close frame may be behind that. Of a chunk so many frames are looked at
before other tasks get their turn; the lane keeps the rest meanwhile.

How connections end. The first of these decides the `Ending`; from then on everything has
`close_timeout` seconds:

* a Close frame from one side goes to the other, whose own Close comes back (RFC 6455 §7.1.2);
* a side that vanishes without a Close frame: the other is told (1001 to a backend, 1011 to a
  client; 1014 would say more, but widely used clients take it for a protocol error);
* a protocol violation: 1002 (or what the violation names) to both sides;
* `Lane.end`, called on both lanes: the Close it names to both sides.
"""

from __future__ import annotations

import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode, Ending, Side
from trio_gw.relay.epoll_loop import LIMITED_FRAMES_PER_TURN
from trio_gw.relay.lane import FRAMES_PER_TURN
from trio_gw.relay.lingering_close import BROKEN, lingering_close, send_eof, wait_hangup
from trio_gw.relay.plain import close_now
from trio_gw.relay.sizes import CHUNK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.rate_limit import RateLimit

    Bytes = bytes | bytearray | memoryview
    Send = Callable[[Bytes], Awaitable[None]]

OTHER = {Side.CLIENT: Side.BACKEND, Side.BACKEND: Side.CLIENT}


async def carry(
    client: trio.abc.Stream,
    backend: trio.abc.Stream,
    publish: Lane,
    subscribe: Lane,
    *,
    early: tuple[bytes, bytes] = (b"", b""),
    unsent: tuple[bytes, bytes] = (b"", b""),
    close_timeout: float,
    rate_limits: Mapping[Side, RateLimit] | None = None,
    ended: Ending | None = None,
) -> Ending:
    """Relay until the end; `early` holds bytes already received from client and backend.

    `unsent` holds bytes that have already been through the lanes, for client and backend; they
    go first. `close_timeout` is in seconds. `rate_limits` holds the limits on what
    each side sends, if it has any. Both streams are closed when this returns or raises.
    """
    streams = {Side.CLIENT: client, Side.BACKEND: backend}
    lanes = {Side.CLIENT: publish, Side.BACKEND: subscribe}
    relay = Relay(streams, lanes, close_timeout, rate_limits)
    if ended is not None:
        relay.end(ended)
    return await relay.run(
        {Side.CLIENT: early[0], Side.BACKEND: early[1]},
        {Side.CLIENT: unsent[0], Side.BACKEND: unsent[1]},
    )


class Relay:
    """The state that the two directions share. A lane is indexed by the side it comes from."""

    def __init__(
        self,
        streams: dict[Side, trio.abc.Stream],
        lanes: dict[Side, Lane],
        close_timeout: float,
        rate_limits: Mapping[Side, RateLimit] | None = None,
    ) -> None:
        self.streams = streams
        self.lanes = lanes
        self.close_timeout = close_timeout
        self.chunk = CHUNK  # bytes per read
        self.read_closed: set[Side] = set()  # sides that will not send any more
        # What lanes have passed behind something that waits, and until when there is time for it.
        self.read_ahead: dict[Side, deque[bytes]] = {side: deque() for side in streams}
        self.leaving: dict[Side, float] = {}
        self.limited_octets: dict[Side, int] = dict.fromkeys(
            streams, 0
        )  # octets that a limiter looks at
        self.write_failed: set[Side] = set()  # sides that cannot be sent to any more
        self.ending: Ending | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()  # set with `ending`
        self.rate_limits = rate_limits or {}
        for side, rate_limit in self.rate_limits.items():
            rate_limit.bind(lanes[side], lanes.values())

    async def run(
        self, early: dict[Side, bytes], unsent: dict[Side, bytes] | None = None
    ) -> Ending:
        """Carry both directions to their end, and close both streams."""
        unsent = unsent or dict.fromkeys(self.streams, b"")
        try:
            with self.scope:
                if (last := self._only_sender(early, unsent)) is None:
                    async with trio.open_nursery() as nursery:
                        for side in self.streams:
                            start = nursery.start_soon
                            start(self._relay_direction, side, early[side], unsent[OTHER[side]])
                else:
                    await self._relay_direction(last, early[last], unsent[OTHER[last]])
                if self._client_may_close():
                    await self._close_side(Side.CLIENT)
                    await self._close_side(Side.BACKEND)
                else:
                    async with trio.open_nursery() as nursery:
                        for side in self.streams:
                            nursery.start_soon(self._close_side, side)
        finally:
            for lane in self.lanes.values():
                lane.wake = None  # it refers to this; without it no garbage collector is needed
            # Out of time or cancelled: no more goodbyes, but no descriptor is left behind.
            for stream in self.streams.values():
                if not close_now(stream):
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(stream)
        if self.ending is None:
            # One could not be sent to, and yet neither of them ended within the deadline.
            return Ending(min(self.write_failed), CloseCode.ABNORMAL, "connection lost")
        return self.ending

    def _only_sender(self, early: dict[Side, bytes], unsent: dict[Side, bytes]) -> Side | None:
        """Return the one side that still speaks when the other's Close has passed already.

        The shuttle hands most connections over like that; two tasks would have one too many.
        """
        for side, other in OTHER.items():
            lane, opposite = self.lanes[side], self.lanes[other]
            passed = lane.close is not None and lane.finished and lane.ending is None
            waits = side in self.rate_limits and self.rate_limits[side].waiting  # that Close, too
            if passed and not (opposite.over or early[side] or unsent[other] or waits):
                self._on_last_frame(side, lane)
                return other
        return None

    def _client_may_close(self) -> bool:
        """Tell whether nothing is to be waited for before the client's connection is closed."""
        return self._close_handshake_done(Side.CLIENT) or Side.CLIENT in self.read_closed

    def _close_handshake_done(self, side: Side) -> bool:
        return self.lanes[side].close is not None and self.lanes[OTHER[side]].finished

    async def _relay_direction(self, side: Side, early: bytes, unsent: bytes) -> None:
        """Carry one direction until `side` has said its last: a Close, a violation, its end."""
        lane, source = self.lanes[side], self.streams[side]
        other = OTHER[side]
        sink, send_own = self.streams[other], self.sender(other)
        # What the sender says pays its toll; what the gateway says itself does not.
        rate_limit, send = self.rate_limits.get(side), send_own
        read_ahead = self.read_ahead[side]
        if rate_limit is not None:
            send = self._limited(
                side,
                rate_limit.limiting(send_own, self.ended, partial(self._read_while_paused, side)),
            )
        reading: trio.CancelScope | None = None

        def wake() -> None:
            assert lane.ending is not None
            self.end(Ending(Side.GATEWAY, lane.ending.code, lane.ending.reason))
            # Only a read may be broken off: a write cut short would leave half a frame.
            if reading is not None:
                reading.cancel()

        lane.wake = wake
        await self._send(other, unsent, send_own)
        if rate_limit is not None and (waiting := rate_limit.take_waiting()):
            await self._send(other, waiting, send)
        if early and (passed := self._scan(side, early)):
            await self._send(other, passed, send)
        while True:
            while read_ahead:
                await self._send(other, read_ahead.popleft(), send)
            if lane.over:
                self._on_last_frame(side, lane)
            if lane.ending is not None:
                wake()
                if close := lane.flush():
                    await self._send(other, close, send_own)
                    self._scan(side, b"")  # what was held back may be the peer's own Close
            if lane.over:
                return
            data: bytes | bytearray | None = None
            more = False  # the lane has a rest, which comes in the place of a read
            with trio.CancelScope() as scope:
                while True:
                    more = bool(lane.rest)
                    reading = scope
                    try:
                        if more:
                            await trio.lowlevel.checkpoint()
                        else:
                            data = await source.receive_some(self.chunk)
                    except BROKEN:
                        data = b""
                        self._on_write_failed(side)
                    reading = None
                    if not (data or more) or lane.ending is not None:
                        break
                    passed = self._scan(side, data or b"")
                    data, more = None, False
                    if passed:
                        try:
                            await send(passed)
                        except BROKEN:
                            self._on_write_failed(other)
                        passed = b""  # nothing is kept while the next read waits
                    if lane.halted or read_ahead:
                        break
            reading = None
            # Out here, because a chunk may arrive in the very moment in which `wake` cancels the
            # scope above, and what is sent in a cancelled scope is lost.
            if data or more:
                await self._send(other, self._scan(side, data or b""), send)
            elif data is not None:
                self._on_connection_lost(side)
                self.cut(side)
                await self._send(other, lane.flush(), send_own)
                if not lane.finished:
                    # Lost inside a frame: no Close can be said, the end of the stream has to do.
                    with contextlib.suppress(*BROKEN):
                        await send_eof(sink)
                return

    def _scan(self, side: Side, data: bytes | bytearray) -> Bytes:
        """Feed a lane, for one turn; returns what may pass. Its rest comes before what is read."""
        if side in self.rate_limits:
            return self.lanes[side].feed(data, LIMITED_FRAMES_PER_TURN, counted=True)
        return self.lanes[side].feed(data, FRAMES_PER_TURN)

    def _limited(self, side: Side, send_limited: Send) -> Send:
        """Note how much of this side a limiter looks at."""

        async def send(data: Bytes) -> None:
            self.limited_octets[side] = len(data)
            try:
                await send_limited(data)
            finally:
                self.limited_octets[side] = 0

        return send

    async def _read_while_paused(self, side: Side) -> float:
        """Read on while something of this side waits; returns when it leaves.

        That is the moment until which there is time for what waits. At most a chunk is read, and
        no more than two are kept with all that waits.
        """
        lane, source, read_ahead = self.lanes[side], self.streams[side], self.read_ahead[side]
        while side not in self.leaving:
            data: bytes | bytearray = b""
            if lane.rest:
                await trio.lowlevel.checkpoint()
                read_ahead.append(bytes(self._scan(side, b"")))
                continue
            if not lane.over:
                waiting = self.limited_octets[side] + sum(map(len, read_ahead))
                if (room := min(CHUNK, 2 * CHUNK - waiting)) > 0:
                    with contextlib.suppress(*BROKEN):  # it will look so again
                        data = await source.receive_some(room)
                else:
                    await wait_hangup(source)
            if data:
                read_ahead.append(bytes(self._scan(side, data)))
            else:
                self.leaving[side] = trio.current_time() + self.close_timeout
        return self.leaving[side]

    def sender(self, side: Side) -> Send:
        """Return what takes the bytes that are meant for a side."""
        return self.streams[side].send_all

    def cut(self, side: Side) -> None:
        """React to a frame of this side whose rest will never come."""
        if side in self.rate_limits and self.rate_limits[side].policer.discarding:
            self.lanes[side].cut()  # nothing of it has been sent

    async def _send(self, side: Side, data: Bytes, send: Send) -> None:
        if data and side not in self.write_failed:
            try:
                await send(data)
            except BROKEN:
                self._on_write_failed(side)

    def _on_write_failed(self, side: Side) -> None:
        """Send no more to a side that cannot be reached; its last words may still be unread."""
        self.write_failed.add(side)
        self.lanes[OTHER[side]].finished = True
        self._start_deadline()

    def end(self, ending: Ending) -> None:
        """Note how the connection ends; the first to say so counts and starts the deadline."""
        if self.ending is None:
            self.ending = ending
            self.ended.set()
            self._start_deadline()

    def _start_deadline(self) -> None:
        """Start the deadline, unless it runs already."""
        deadline = trio.current_time() + self.close_timeout
        self.scope.deadline = min(self.scope.deadline, deadline)

    def _on_last_frame(self, side: Side, lane: Lane) -> None:
        if lane.violation is not None:
            what = f"{side}: {lane.violation.what}"
            self.end(Ending(side, lane.violation.code, what))
            self.lanes[OTHER[side]].end(lane.violation.code, what)
        elif lane.close is not None:
            self.end(Ending(side, lane.close.code, lane.close.reason))

    def _on_connection_lost(self, side: Side) -> None:
        """React to the end of what a side sends, before its Close frame."""
        self.read_closed.add(side)
        lane, opposite = self.lanes[side], self.lanes[OTHER[side]]
        self.end(Ending(side, CloseCode.ABNORMAL, "connection lost"))
        if opposite.close is not None:
            # It went instead of answering a Close: answer in its place, with the same code.
            lane.end(opposite.close.code, opposite.close.reason)
        elif side is Side.CLIENT:
            lane.end(CloseCode.GOING_AWAY, "client connection lost")
        else:
            lane.end(CloseCode.INTERNAL, "backend connection lost")
        # It may only have stopped sending: tell it why the connection ends.
        opposite.end(CloseCode.PROTOCOL_ERROR, "connection ended without a Close frame")

    async def _close_side(self, side: Side) -> None:
        """Close one connection so that the peer can still read the last frame sent to it.

        Closing with unread bytes in the socket would reset it and destroy what is under way.
        A client is left at once when both Close frames are through; a backend, which is the
        server there, gets to close first (RFC 6455 §7.1.1).
        """
        stream = self.streams[side]
        close_handshake_done = self._close_handshake_done(side)
        if side not in self.read_closed and not (close_handshake_done and side is Side.CLIENT):
            with contextlib.suppress(*BROKEN):
                await lingering_close(stream, wait_only=close_handshake_done)
        if close_now(stream):
            return
        with contextlib.suppress(*BROKEN):
            await stream.aclose()
