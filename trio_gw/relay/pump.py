"""Drive two lanes over any pair of Trio streams, with one task per direction.

`proxy.connection` calls `carry` after the upgrade. It returns when both sides are closed, with the
`Ending` that says which side ended the connection, and how. TCP itself provides the backpressure: a
direction reads its next chunk only when the other side has taken the last one. So memory is bounded
by one chunk per direction, however slow a peer is. If a message waits for its rate limit, one more
chunk is read, because the sender's Close frame may follow. In one turn only a certain number of
frames is scanned; the lane keeps the rest while other tasks run.

How connections end. The first of these events decides the `Ending`. Then everything has to be over
within `close_timeout` seconds.

* One side sends a Close frame. It goes to the other side, whose own Close comes back (RFC 6455
  §7.1.2).
* One side vanishes without a Close frame. The other side gets a Close: 1001 to a backend, 1011 to a
  client. 1014 would say more, but widely used clients take it for a protocol error.
* One side violates the protocol: both sides get a Close with 1002, or the code of the violation.
* `Lane.end` is called on both lanes: both sides get the Close that it names.
"""

from __future__ import annotations

import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

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


class Relayed(NamedTuple):
    """What a driver relays: two streams, and the lanes from client to backend and back."""

    client: trio.abc.Stream
    backend: trio.abc.Stream
    publish: Lane
    subscribe: Lane

    def streams(self) -> dict[Side, trio.abc.Stream]:
        """Map each side to its stream."""
        return {Side.CLIENT: self.client, Side.BACKEND: self.backend}

    def lanes(self) -> dict[Side, Lane]:
        """Map each side to the lane of what it sends."""
        return {Side.CLIENT: self.publish, Side.BACKEND: self.subscribe}


async def carry(
    relayed: Relayed,
    *,
    early: tuple[bytes, bytes] = (b"", b""),
    unsent: tuple[bytes, bytes] = (b"", b""),
    close_timeout: float,
    rate_limits: Mapping[Side, RateLimit] | None = None,
    ended: Ending | None = None,
) -> Ending:
    """Relay until the end. `early` holds bytes already received from client and backend.

    `unsent` holds bytes for client and backend that have already passed the lanes; they are sent
    first. `close_timeout` is in seconds. `rate_limits` holds the limits on what each side sends, if
    there are any. `ended` is the ending, if it is known already. Both streams are closed when this
    returns or raises.
    """
    relay = Relay(relayed.streams(), relayed.lanes(), close_timeout, rate_limits)
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
        self.read_closed: set[Side] = set()  # sides that send nothing more
        # What lanes passed behind a waiting message; until when that waits if its sender left.
        self.read_ahead: dict[Side, deque[bytes]] = {side: deque() for side in streams}
        self.leaving: dict[Side, float] = {}
        # Octets that a limiter is deciding about.
        self.limited_octets: dict[Side, int] = dict.fromkeys(streams, 0)
        self.write_failed: set[Side] = set()  # sides to which nothing can be sent
        self.ending: Ending | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()  # set with `ending`
        self.rate_limits = rate_limits or {}
        for side, rate_limit in self.rate_limits.items():
            rate_limit.bind(lanes[side], lanes.values())

    async def run(
        self, early: dict[Side, bytes], unsent: dict[Side, bytes] | None = None
    ) -> Ending:
        """Relay both directions to their end, and close both streams."""
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
                lane.wake = None  # a reference to this object: no garbage collector is needed
            # After a timeout or a cancellation nothing is sent, but all descriptors are closed.
            for stream in self.streams.values():
                if not close_now(stream):
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(stream)
        if self.ending is None:
            # Sending to one side failed, but neither side ended before the deadline.
            return Ending(min(self.write_failed), CloseCode.ABNORMAL, "connection lost")
        return self.ending

    def _only_sender(self, early: dict[Side, bytes], unsent: dict[Side, bytes]) -> Side | None:
        """Return the one side that still sends, if the other side's Close has passed already.

        `tunnel` hands over most connections in this state. One task is enough then.
        """
        for side, other in OTHER.items():
            lane, opposite = self.lanes[side], self.lanes[other]
            passed = lane.close is not None and lane.finished and lane.ending is None
            waits = (
                side in self.rate_limits and self.rate_limits[side].waiting
            )  # the Close waits, too
            if passed and not (opposite.over or early[side] or unsent[other] or waits):
                self._on_last_frame(side, lane)
                return other
        return None

    def _client_may_close(self) -> bool:
        """Return whether the client's connection can be closed without waiting."""
        return self._close_handshake_done(Side.CLIENT) or Side.CLIENT in self.read_closed

    def _close_handshake_done(self, side: Side) -> bool:
        return self.lanes[side].close is not None and self.lanes[OTHER[side]].finished

    async def _relay_direction(self, side: Side, early: bytes, unsent: bytes) -> None:
        """Relay one direction until `side` has sent a Close or a violation, or its stream ends."""
        lane, source = self.lanes[side], self.streams[side]
        other = OTHER[side]
        sink, send_own = self.streams[other], self.sender(other)
        # What the sender sends is limited; what the gateway itself sends is not.
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
            # Only a read may be cancelled: a cancelled write would leave half a frame.
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
                    self._scan(side, b"")  # the bytes held back may be the peer's own Close
            if lane.over:
                return
            data: bytes | bytearray | None = None
            more = False  # the lane has a rest, which is scanned instead of a read
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
                        passed = b""  # keep nothing while the next read waits
                    if lane.halted or read_ahead:
                        break
            reading = None
            # This is outside of the scope above. A chunk may arrive at the moment when `wake`
            # cancels that scope, and what is sent in a cancelled scope is lost.
            if data or more:
                await self._send(other, self._scan(side, data or b""), send)
            elif data is not None:
                self._on_connection_lost(side)
                self.cut(side)
                await self._send(other, lane.flush(), send_own)
                if not lane.finished:
                    # Lost inside a frame, where no Close can follow: end the stream.
                    with contextlib.suppress(*BROKEN):
                        await send_eof(sink)
                return

    def _scan(self, side: Side, data: bytes | bytearray) -> Bytes:
        """Feed a lane for one turn; returns what may pass. Its rest comes before new data."""
        if side in self.rate_limits:
            return self.lanes[side].feed(data, LIMITED_FRAMES_PER_TURN, counted=True)
        return self.lanes[side].feed(data, FRAMES_PER_TURN)

    def _limited(self, side: Side, send_limited: Send) -> Send:
        """Count the octets of this side that a limiter is deciding about."""

        async def send(data: Bytes) -> None:
            self.limited_octets[side] = len(data)
            try:
                await send_limited(data)
            finally:
                self.limited_octets[side] = 0

        return send

    async def _read_while_paused(self, side: Side) -> float:
        """Read on while a message of this side waits; returns when the side leaves.

        Returns the moment until which the message may still wait. At most one chunk is read, and at
        most two are kept, with all that waits.
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
                    with contextlib.suppress(*BROKEN):  # the next read meets it again
                        data = await source.receive_some(room)
                else:
                    await wait_hangup(source)
            if data:
                read_ahead.append(bytes(self._scan(side, data)))
            else:
                self.leaving[side] = trio.current_time() + self.close_timeout
        return self.leaving[side]

    def sender(self, side: Side) -> Send:
        """Return the function that sends to a side."""
        return self.streams[side].send_all

    def cut(self, side: Side) -> None:
        """Handle a frame of this side that will never be complete."""
        if side in self.rate_limits and self.rate_limits[side].policer.discarding:
            self.lanes[side].cut()  # nothing of it has been sent

    async def _send(self, side: Side, data: Bytes, send: Send) -> None:
        if data and side not in self.write_failed:
            try:
                await send(data)
            except BROKEN:
                self._on_write_failed(side)

    def _on_write_failed(self, side: Side) -> None:
        """Send nothing more to a side. What it sent before may still be unread."""
        self.write_failed.add(side)
        self.lanes[OTHER[side]].finished = True
        self._start_deadline()

    def end(self, ending: Ending) -> None:
        """Set how the connection ends, and start the deadline. Only the first call counts."""
        if self.ending is None:
            self.ending = ending
            self.ended.set()
            self._start_deadline()

    def _start_deadline(self) -> None:
        """Start the deadline if it has not started."""
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
        """Handle a stream that ends before a Close frame."""
        self.read_closed.add(side)
        lane, opposite = self.lanes[side], self.lanes[OTHER[side]]
        self.end(Ending(side, CloseCode.ABNORMAL, "connection lost"))
        if opposite.close is not None:
            # It left instead of answering a Close: answer for it, with the same code.
            lane.end(opposite.close.code, opposite.close.reason)
        elif side is Side.CLIENT:
            lane.end(CloseCode.GOING_AWAY, "client connection lost")
        else:
            lane.end(CloseCode.INTERNAL, "backend connection lost")
        # It may have closed only its sending direction, so send the reason.
        opposite.end(CloseCode.PROTOCOL_ERROR, "connection ended without a Close frame")

    async def _close_side(self, side: Side) -> None:
        """Close one connection so that the peer can still read the last frame sent to it.

        Closing a socket with unread bytes would reset it, and destroy what is on the way. After
        both Close frames the client's connection is closed at once. A backend closes first, because
        it is the server of its connection (RFC 6455 §7.1.1).
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
