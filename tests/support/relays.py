"""A relay between two peers whom the test plays, over any kind of stream."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio.testing
import trustme

from support.conversation import KEY, Seen, frame, split_frames
from trio_gw.relay import messages, pump
from trio_gw.relay.lane import Lane
from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.tunnel import Tunnels
from trio_gw.wire import frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_gw.errors import Ending, Side
    from trio_gw.relay.rate_limit import RateLimit

    Pair = tuple[trio.abc.Stream, trio.abc.Stream]
    MakePair = Callable[[], Awaitable[Pair]]


async def memory() -> Pair:
    """Streams without a limit: sending never blocks."""
    await trio.lowlevel.checkpoint()
    return trio.testing.memory_stream_pair()


async def lockstep() -> Pair:
    """Streams without a buffer: sending blocks until the other side has read it all."""
    await trio.lowlevel.checkpoint()
    return trio.testing.lockstep_stream_pair()


async def tcp() -> tuple[trio.SocketStream, trio.SocketStream]:
    """A real connection over loopback."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    near = await trio.testing.open_stream_to_socket_listener(listeners[0])
    far = await listeners[0].accept()
    await listeners[0].aclose()
    return near, far


async def fast_path() -> Pair:
    """A real connection whose relay is driven by `tunnel`, while the others get the pump.

    The gateway's end is the stream that it makes itself.
    """
    near, far = await tcp()
    return near, PlainStream(socket.socket(fileno=far.socket.detach()))


async def fast_path_tls() -> Pair:
    """A real connection with TLS whose relay is driven by `tunnel`."""
    return await tls()


async def tls() -> Pair:
    """A real connection with TLS; the gateway has the server's end, as before a client."""
    near, far = await tcp()
    server_context, client_context = tls_contexts()
    server = SecureStream(far, server_context, server_side=True)
    client = trio.SSLStream(
        near, client_context, server_hostname="localhost", https_compatible=True
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        nursery.start_soon(client.do_handshake)
    return client, server


@functools.cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts of a server for localhost, and of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def inspected() -> Pair:
    """A real connection whose relay looks at messages."""
    return await tcp()


async def inspected_memory() -> Pair:
    """The same over streams without a limit."""
    return await memory()


MESSAGES = (inspected, inspected_memory)
FAST_PATHS = (fast_path, fast_path_tls)


class Peer:
    """A client or a backend, as seen from its own end of the connection."""

    def __init__(self, stream: trio.abc.Stream, key: bytes | None) -> None:
        self.stream = stream
        self.key = key
        self._heard: list[Seen] = []
        self._unread = b""  # the beginning of a frame

    async def sends(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def says(self, payload: bytes) -> None:
        """Send a binary message."""
        await self.sends(frame(frames.BINARY, payload, key=self.key))

    async def closes(self, code: int | None = 1000, reason: bytes = b"") -> None:
        """Send a Close frame."""
        payload = b"" if code is None else code.to_bytes(2, "big") + reason
        await self.sends(frame(frames.CLOSE, payload, key=self.key))

    async def gets(self) -> Seen:
        """Receive one whole frame."""
        while not self._heard:
            data = await self.stream.receive_some()
            assert data, f"the connection ended after {self._unread!r}"
            self._heard, self._unread = split_frames(self._unread + data)
        return self._heard.pop(0)

    async def hears(self, payload: bytes) -> None:
        """Receive this binary message."""
        seen = await self.gets()
        assert (seen.opcode, seen.payload) == (frames.BINARY, payload)

    async def is_told(self, code: int, reason: str | None = None) -> None:
        """Receive a Close frame with this code."""
        seen = await self.gets()
        assert (seen.opcode, seen.code) == (frames.CLOSE, code)
        # Towards the backend the gateway is a client (RFC 6455 §5.3).
        assert seen.masked is (self.key is None)
        assert reason is None or seen.reason == reason

    async def is_left(self, unfinished: bytes = b"") -> None:
        """Receive the end of the connection, and before it nothing but part of a frame."""
        while data := await self.stream.receive_some():
            self._unread += data
        assert (self._heard, self._unread) == ([], unfinished)

    async def hangs_up(self) -> None:
        await self.stream.aclose()

    async def stops_sending(self) -> None:
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        await self.stream.send_eof()

    async def resets(self) -> None:
        """Abort the TCP connection."""
        assert isinstance(self.stream, trio.SocketStream)
        linger = struct.pack("ii", 1, 0)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await self.stream.aclose()


class Relay:
    """A running `carry` and its two peers."""

    def __init__(self, client: Pair, backend: Pair, *, rsv: int = 0, most: int = 0) -> None:
        self.client = Peer(client[0], KEY)
        self.backend = Peer(backend[0], None)
        self.near = client[1]
        self.far = backend[1]
        self.publish = Lane(masked=True, rsv=rsv, most=most)
        self.subscribe = Lane(masked=False, rsv=rsv, most=most)
        self.ending: Ending | None = None
        self.over = trio.Event()
        self.scope = trio.CancelScope()
        self.tunnels: Tunnels | None = None
        self.limit = 0  # bytes of a message, if they are looked at
        self.filters: dict[str, messages.Filter] | None = None
        self.rate_limits: dict[Side, RateLimit] = {}

    async def run(self, early: tuple[bytes, bytes], close_timeout: float) -> None:
        carry: Any = pump.carry if self.tunnels is None else self.tunnels.carry
        if self.limit:
            carry = partial(messages.carry, limit=self.limit, filters=self.filters)
        if self.rate_limits:
            carry = partial(carry, rate_limits=self.rate_limits)
        try:
            with self.scope:
                self.ending = await carry(
                    pump.Relayed(self.near, self.far, self.publish, self.subscribe),
                    early=early,
                    close_timeout=close_timeout,
                )
        finally:
            self.over.set()

    def end(self, code: int, reason: str = "") -> None:
        """End the connection as `proxy.sessions` does."""
        self.publish.end(code, reason)
        self.subscribe.end(code, reason)

    async def took(self, peer: Peer, octets: int) -> None:
        """Wait until the gateway has received this much from a peer."""
        lane = self.publish if peer is self.client else self.subscribe
        while lane.octets < octets:
            await trio.testing.wait_all_tasks_blocked(0.001)

    async def ends(self, by: str, code: int, reason: str | None = None) -> None:
        """Wait for the end, and say who ended it and how."""
        await self.over.wait()
        assert self.ending is not None
        assert (self.ending.by, self.ending.code) == (by, code)
        assert reason is None or self.ending.reason == reason


async def is_closed(stream: trio.abc.Stream) -> bool:
    """Tell whether our end of a stream was closed."""
    if isinstance(stream, SecureStream):
        return stream.tls.fileno() == -1
    if isinstance(stream, trio.SocketStream | PlainStream):
        return stream.socket.fileno() == -1
    for touch in (lambda: stream.send_all(b"x"), lambda: stream.receive_some(1)):
        try:
            with trio.move_on_after(1):  # an open stream blocks
                await touch()
        except trio.ClosedResourceError:
            continue
        return False
    return True


@contextlib.asynccontextmanager
async def relaying(
    client: MakePair = memory,
    backend: MakePair | None = None,
    *,
    early: tuple[bytes, bytes] = (b"", b""),
    close_timeout: float = 5,
    limit: float = 30,
    end_first: int = 0,
    limit_of_message: int = 1 << 20,
    filters: dict[str, messages.Filter] | None = None,
    rate_limits: dict[Side, RateLimit] | None = None,
    most: int = 0,
    rsv: int = 0,
) -> AsyncIterator[Relay]:
    """Run a relay; at the end of the context it must be over, with both streams closed.

    `end_first` is a code with which the gateway ends the connection before it even begins.
    """
    with trio.fail_after(limit):
        relay = Relay(await client(), await (backend or client)(), rsv=rsv, most=most)
        relay.rate_limits = rate_limits or {}
        if end_first:
            relay.end(end_first)
        async with trio.open_nursery() as nursery:
            if client in MESSAGES:
                relay.limit, relay.filters = limit_of_message, filters
            if client in FAST_PATHS:
                relay.tunnels = Tunnels()
                await nursery.start(relay.tunnels.run)
                await nursery.start(relay.tunnels.waits.run)
            nursery.start_soon(relay.run, early, close_timeout)
            yield relay
            await relay.over.wait()
            assert not relay.tunnels, "a pair is still on the fast path"
            nursery.cancel_scope.cancel()
        assert await is_closed(relay.near)
        assert await is_closed(relay.far)
        for peer in (relay.client, relay.backend):
            await trio.aclose_forcefully(peer.stream)
