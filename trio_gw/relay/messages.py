"""Relay a connection message by message: the driver for APIs whose payloads are inspected.

The gateway is a WebSocket endpoint on both sides here. Lanes and the two tasks are those of
`relay.pump`, so connections end in the same ways and with the same `Ending`. The difference is
what happens to the bytes that a lane has passed. Control frames go on as they are, pings and pongs
included. Data frames become messages (`relay.assembly`). Each message passes the filters, and goes
on as one frame.

A filter is `async (message, direction, session) -> message or None`. The message that it returns
goes on; None drops it. A filter may raise `ViolationError` with the close code for both sides.

The messages of one turn are sent together: a filter that waits delays those before it, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from trio_gw.errors import CloseCode, Side
from trio_gw.relay.assembly import Assembly, Message
from trio_gw.relay.pump import OTHER, Relay
from trio_gw.wire import frames
from trio_gw.wire.frames import ViolationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trio

    from trio_gw.errors import Ending
    from trio_gw.relay.lane import Lane
    from trio_gw.relay.pump import Relayed
    from trio_gw.relay.rate_limit import RateLimit

    Bytes = bytes | bytearray | memoryview
    Send = Callable[[Bytes], Awaitable[None]]


async def checked(message: Message, _direction: Side, _session: Any) -> Message:  # noqa: ANN401
    """Require UTF-8 in texts (RFC 6455 §8.1). The size was checked before."""
    if message.text:
        try:
            message.payload.decode()
        except UnicodeDecodeError as error:
            what = f"text that is not UTF-8 at byte {error.start}"
            raise ViolationError(what, CloseCode.INVALID_PAYLOAD) from None
    return message


# The side is the one that the message comes from.
Filter = Callable[[Message, Side, Any], Awaitable[Message | None]]

FILTERS: dict[str, Filter] = {"checked": checked}
"""The filters that there are, in the order in which a message passes them."""

CHUNK = 16 * 1024  # bytes per read
FRAMES_PER_TURN = 16  # one costs about 10 µs here, and others wait for all of them
_LARGE = 4096  # bytes from which a frame is sent without a copy


async def carry(
    relayed: Relayed,
    *,
    early: tuple[bytes, bytes] = (b"", b""),
    close_timeout: float,
    limit: int,
    session: object = None,
    filters: Mapping[str, Filter] | None = None,
    rate_limits: Mapping[Side, RateLimit] | None = None,
) -> Ending:
    """Relay until the end, as `pump.carry` does. `limit` is the size of a message in bytes."""
    streams, lanes = relayed.streams(), relayed.lanes()
    chosen = tuple((FILTERS if filters is None else filters).values())
    relay = _Inspecting(streams, lanes, close_timeout, limit, chosen, session, rate_limits)
    return await relay.run({Side.CLIENT: early[0], Side.BACKEND: early[1]})


class _Inspecting(Relay):
    """The relay of `pump`, which inspects every message on its way."""

    def __init__(
        self,
        streams: dict[Side, trio.abc.Stream],
        lanes: dict[Side, Lane],
        close_timeout: float,
        limit: int,
        filters: tuple[Filter, ...],
        session: object,
        rate_limits: Mapping[Side, RateLimit] | None = None,
    ) -> None:
        super().__init__(streams, lanes, close_timeout, rate_limits)
        self.chunk = CHUNK
        self._limit = limit
        self._filters = filters
        self._session = session
        self._assemblies = {side: self._assembly(side) for side in streams}

    def sender(self, side: Side) -> Send:
        """Return what takes the bytes that are meant for a side, and inspects them."""

        async def inspect(data: Bytes) -> None:
            await self._inspect(OTHER[side], data)

        return inspect

    def cut(self, side: Side) -> None:
        """Forget a frame that will never be complete: nothing of it has been sent."""
        self.lanes[side].cut()
        self._assemblies[side] = self._assembly(side)

    def _scan(self, side: Side, data: bytes | bytearray) -> Bytes:
        """Feed a lane, for one turn. Each frame costs a look here, so all of them count."""
        return self.lanes[side].feed(data, FRAMES_PER_TURN, counted=True)

    def _assembly(self, side: Side) -> Assembly:
        return Assembly(masked=side is Side.CLIENT, limit=self._limit)

    async def _inspect(self, source: Side, data: Bytes) -> None:
        send = self.streams[OTHER[source]].send_all
        small: list[bytes] = []  # sent together: no more than this data, and one message
        try:
            for part in self._assemblies[source].feed(data):
                frame = part if isinstance(part, bytes) else await self._judge(part, source)
                del part  # the message is not kept while its frame is sent
                if len(frame) < _LARGE:
                    small.append(frame)
                    continue
                if small:
                    await send(b"".join(small))
                    small.clear()
                await send(frame)
        except ViolationError as violation:
            self.lanes[source].violate(violation)
            self._assemblies[source] = self._assembly(source)  # the rest is forgotten
            self.read_ahead[source].clear()
        if together := b"".join(small):
            await send(together)

    async def _judge(self, message: Message, source: Side) -> bytes:
        """Pass a message through the filters; returns its frame, nothing if it goes nowhere."""
        for look in self._filters:
            seen = await look(message, source, self._session)
            if seen is None:
                return b""
            message = seen
        masked = source is Side.CLIENT
        return frames.data_frame(message.payload, text=message.text, masked=masked)
