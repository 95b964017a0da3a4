"""Drive a connection message by message: the driver for APIs that want payloads looked at.

The gateway is an endpoint on both sides here. Lanes and the two tasks are those of `relay.pump`,
so connections end in the same ways and with the same `Ending`. What differs is what happens to
the bytes that a lane has passed: control frames go on as they are, pings and pongs included;
data frames go to a trio-websocket connection, which makes messages of them. A message passes the
filters, and the other side's trio-websocket connection writes it, as one frame.

That library drops connections without a Close frame, leaves sockets open, has no bound for
fragments, and answers in the place of the peers. So it gets neither socket nor handshake: each
connection talks to a `_Wire`, which plays the opening handshake (the real one has been judged
long before), hands it nothing but valid data frames within bounds, and discards whatever it
would like to send of its own accord. Text comes to it as binary, so that invalid UTF-8 cannot
make it give up; judging that is a filter's business.

A filter is `async (message, direction, session) -> message or None`: what it returns goes on,
None goes nowhere. It may raise `ViolationError`, with the code of the Close that both sides get.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from trio_websocket import ConnectionClosed, wrap_client_stream, wrap_server_stream

from trio_gw.errors import CloseCode, Side
from trio_gw.relay.assembly import Assembly
from trio_gw.relay.pump import OTHER, Relay
from trio_gw.wire import frames
from trio_gw.wire.frames import ViolationError
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_websocket import WebSocketConnection

    from trio_gw.errors import Ending
    from trio_gw.relay.lane import Lane
    from trio_gw.relay.rate_limit import RateLimit

    Bytes = bytes | bytearray | memoryview
    Send = Callable[[Bytes], Awaitable[None]]


class Message(NamedTuple):
    """A message and its type; the payload of a text is not known to be UTF-8 before `checked`."""

    payload: bytes
    text: bool


async def checked(message: Message, _direction: Side, _session: Any) -> Message:  # noqa: ANN401
    """Insist on UTF-8 in texts (RFC 6455 §8.1). How big a message is was judged before."""
    if message.text:
        try:
            message.payload.decode()
        except UnicodeDecodeError as error:
            what = f"text that is not UTF-8 at byte {error.start}"
            raise ViolationError(what, CloseCode.INVALID_PAYLOAD) from None
    return message


# The direction is told by the side that the message comes from.
Filter = Callable[[Message, Side, Any], Awaitable[Message | None]]

FILTERS: dict[str, Filter] = {"checked": checked}
"""The filters that there are, in the order in which a message passes them."""

CHUNK = 16 * 1024  # bytes per read: some copies of a chunk are made, and kept meanwhile
_LITTLE = 2048  # bytes
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # any will do: nobody but the library sees it
_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + _KEY + b"\r\n\r\n"
)


async def carry(
    client: trio.abc.Stream,
    backend: trio.abc.Stream,
    publish: Lane,
    subscribe: Lane,
    *,
    early: tuple[bytes, bytes] = (b"", b""),
    close_timeout: float,
    limit: int,
    session: object = None,
    filters: Mapping[str, Filter] | None = None,
    rate_limits: Mapping[Side, RateLimit] | None = None,
) -> Ending:
    """Relay until the end, as `pump.carry` does. `limit` is the size of a message in bytes."""
    streams = {Side.CLIENT: client, Side.BACKEND: backend}
    lanes = {Side.CLIENT: publish, Side.BACKEND: subscribe}
    chosen = tuple((FILTERS if filters is None else filters).values())
    relay = _Inspecting(streams, lanes, close_timeout, limit, chosen, session, rate_limits)
    try:
        async with trio.open_nursery() as nursery:
            await relay.open(nursery)
            ending = await relay.run({Side.CLIENT: early[0], Side.BACKEND: early[1]})
            nursery.cancel_scope.cancel()
    finally:
        for stream in streams.values():
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
    return ending


class _Wire(trio.abc.Stream):
    """What the library takes for a connection to one of the peers.

    What it writes of messages is kept, to be taken by who had it write them: while that is sent,
    the library holds neither the message nor its frame.
    """

    def __init__(self) -> None:
        self._open = False
        self._written: list[Bytes] = []
        self._asked = b""
        # One place is for the answer to its own handshake; else it takes what is fed at once.
        self._feed, self._fed = trio.open_memory_channel[bytes](1)

    async def join(self, nursery: trio.Nursery, side: Side, limit: int) -> WebSocketConnection:
        """Let the library believe that it has shaken hands."""
        if side is Side.CLIENT:
            self._feed.send_nowait(_REQUEST)
            request = await wrap_server_stream(nursery, self, max_message_size=limit)
            connection = await request.accept()
        else:
            connection = await wrap_client_stream(
                nursery,
                self,  # type: ignore[arg-type] # it says sockets, and uses any stream
                "gateway",
                "/",
                max_message_size=limit,
            )
        self._open = True
        return connection

    async def feed(self, data: bytes) -> None:
        """Give the library some bytes of data frames.

        It keeps what it was given last, and its payload, until it is given more. So that is
        little.
        """
        if len(data) > _LITTLE:
            await self._feed.send(data[:-1])
            data = data[-1:]
        await self._feed.send(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Give the library what was fed; it has no use for a bound."""
        return await self._fed.receive()

    async def send_all(self, data: Bytes) -> None:
        """Keep messages; handshakes, pongs and Close frames of the library go nowhere."""
        if self._open:  # whoever sends it yields
            if data[0] & 0x0F < frames.CLOSE:
                self._written.append(data)
            return
        await trio.lowlevel.checkpoint()
        self._asked += data
        head, end, _ = self._asked.partition(b"\r\n\r\n")
        if end and head.startswith(b"GET "):
            lines = (line.partition(b": ") for line in head.split(b"\r\n"))
            key = next(value for name, _, value in lines if name.lower() == b"sec-websocket-key")
            self._feed.send_nowait(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
            )

    def written(self) -> Bytes:
        """Take what was written of messages since the last time."""
        data = self._written[0] if len(self._written) == 1 else b"".join(self._written)
        self._written.clear()
        return data

    async def wait_send_all_might_not_block(self) -> None:
        """There is nothing to wait for."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Leave the real connection alone: the relay parts from it."""
        await trio.lowlevel.checkpoint()


class _Inspecting(Relay):
    """The relay of `pump`, with a look at every message on its way."""

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
        self._wires = {side: _Wire() for side in streams}
        self._connections: dict[Side, WebSocketConnection] = {}
        self._assemblies = {side: self._assembly(side) for side in streams}

    async def open(self, nursery: trio.Nursery) -> None:
        """Start the library on both sides."""
        for side, wire in self._wires.items():
            self._connections[side] = await wire.join(nursery, side, self._limit)

    def sender(self, side: Side) -> Send:
        """Return what takes the bytes that are meant for a side: the look at them."""

        async def inspect(data: Bytes) -> None:
            await self._inspect(OTHER[side], data)

        return inspect

    def cut(self, side: Side) -> None:
        """Forget a frame that will never be whole: nothing of it has been sent."""
        self.lanes[side].cut()
        self._assemblies[side] = self._assembly(side)

    def _assembly(self, side: Side) -> Assembly:
        return Assembly(masked=side is Side.CLIENT, limit=self._limit)

    async def _inspect(self, source: Side, data: Bytes) -> None:
        try:
            for part in self._assemblies[source].feed(data):
                if part.control:
                    await self.streams[OTHER[source]].send_all(part.data)
                    continue
                await self._wires[source].feed(part.data)
                if part.last:
                    text = part.text
                    del part  # its octets are in the message
                    if await self._judge(text, source):
                        other = OTHER[source]
                        await self.streams[other].send_all(self._wires[other].written())
        except ViolationError as violation:
            self.lanes[source].violate(violation)
            self._assemblies[source] = self._assembly(source)  # the rest is forgotten
            self.read_ahead[source].clear()
        except ConnectionClosed as error:
            # Towards the other side, that is; this one's cannot close by itself.
            raise trio.BrokenResourceError("cannot be sent to") from error

    async def _judge(self, text: bool, source: Side) -> bool:
        """Lead a message through the filters, and have it written; or tell that it goes nowhere."""
        payload = await self._connections[source].get_message()
        assert isinstance(payload, bytes)
        message = Message(payload, text)
        for look in self._filters:
            seen = await look(message, source, self._session)
            if seen is None:
                return False
            message = seen
        content = message.payload.decode() if message.text else message.payload
        await self._connections[OTHER[source]].send_message(content)
        return True
