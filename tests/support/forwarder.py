"""A TCP forwarder between client and server: it cuts connections, refuses them, and splits data."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_KEPT = 65536  # octets of what the client sent


class Forwarder:
    """Forwards connections to a port of this machine.

    While `open` is false, new connections are closed at once. With `octets`, what the server sends
    is passed on in pieces of this size. `stalled` is set when the server has sent `most` octets;
    what it sends after them is not passed on.
    """

    def __init__(self, target: int, octets: int = 0, most: int = 1 << 62) -> None:
        self.port = 0
        self.open = True
        self.accepted = 0
        self._target = target
        self._octets = octets or 1 << 30
        self._most = most
        self.stalled = trio.Event()
        self.sent = bytearray()  # by the client
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Reset all connections, and take no new ones until `open` is set."""
        self.open = False
        for scope in self._scopes:
            scope.cancel()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Forward one connection until either side ends it."""
        async with stream:
            if not self.open:
                return
            self.accepted += 1
            with trio.CancelScope() as scope, contextlib.suppress(trio.BrokenResourceError):
                self._scopes.add(scope)
                try:
                    server = await trio.open_tcp_stream("127.0.0.1", self._target)
                    async with server, trio.open_nursery() as nursery:
                        nursery.start_soon(self._send, stream, server, scope)
                        nursery.start_soon(self._answer, server, stream, scope)
                finally:
                    self._scopes.discard(scope)

    async def _send(
        self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Pass on what the client sends."""
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in client:
                self.sent += data[: _KEPT - len(self.sent)]
                await server.send_all(data)
        scope.cancel()

    async def _answer(
        self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Pass on what the server sends."""
        client.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        left = self._most
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in server:
                passed, left = data[:left], max(0, left - len(data))
                for start in range(0, len(passed), self._octets):
                    await client.send_all(passed[start : start + self._octets])
                if not left:
                    self.stalled.set()
        scope.cancel()


@contextlib.asynccontextmanager
async def forwarding(target: int, octets: int = 0, most: int = 1 << 62) -> AsyncIterator[Forwarder]:
    """Run a forwarder on a free port."""
    forwarder = Forwarder(target, octets, most)
    serve = partial(trio.serve_tcp, forwarder.serve, 0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(serve)
        forwarder.port = listeners[0].socket.getsockname()[1]
        yield forwarder
        nursery.cancel_scope.cancel()
