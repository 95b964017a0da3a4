"""A backend for tests: records every handshake and message, and sends messages back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_server_stream

from trio_gw.testing.arrivals import Arrivals
from trio_gw.testing.connection import MAX_MESSAGE, TIMEOUT, RecordingConnection
from trio_gw.testing.scopes import unwrapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_gw.testing.connection import Message


class RecordingBackend:
    """A running backend; made by `serve_backend`."""

    def __init__(self, port: int, timeout: float) -> None:
        self.port = port
        self._timeout = timeout
        self._connections: Arrivals[RecordingConnection] = Arrivals(
            "connection to the backend", timeout
        )
        self._messages: Arrivals[Message] = Arrivals("message at the backend", timeout)

    @property
    def url(self) -> str:
        """Its URL, without a path. Every path is accepted."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def connections(self) -> tuple[RecordingConnection, ...]:
        """All connections that have been made so far, the first one first."""
        return self._connections.all()

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages of all connections that have arrived so far."""
        return self._messages.all()

    async def accept(self) -> RecordingConnection:
        """Return the next connection. Raises `trio.TooSlowError` after `timeout` seconds."""
        return await self._connections.take()

    async def receive(self) -> Message:
        """Return the next message of any connection. Raises as `accept` does."""
        return await self._messages.take()

    async def serve(self, stream: trio.SocketStream, *, echo: bool) -> None:
        """Serve one connection until it ends. Called by `serve_backend`."""
        try:
            async with trio.open_nursery() as nursery:
                request = await wrap_server_stream(nursery, stream, max_message_size=MAX_MESSAGE)
                offered = request.proposed_subprotocols
                websocket = await request.accept(subprotocol=offered[0] if offered else None)
                connection = RecordingConnection(
                    websocket, path=request.path, headers=request.headers, timeout=self._timeout
                )
                self._connections.put(connection)

                async def received(message: Message) -> None:
                    self._messages.put(message)
                    if echo:
                        await websocket.send_message(message)

                # The library's own task ends when the close handshake is done.
                await connection.collect(received)
        except* (HandshakeError, ConnectionClosed, trio.BrokenResourceError, OSError):
            pass  # the gateway ended it
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


@contextlib.asynccontextmanager
async def serve_backend(
    *, echo: bool = True, timeout: float = TIMEOUT
) -> AsyncIterator[RecordingBackend]:
    """Run a backend on a free port of this machine.

    With `echo` it sends every message back. Of the subprotocols that a client offers it takes the
    first. `timeout` in seconds is the longest time that its methods wait.
    """
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    backend = RecordingBackend(listeners[0].socket.getsockname()[1], timeout)

    async def serve(stream: trio.SocketStream) -> None:
        await backend.serve(stream, echo=echo)

    async with unwrapped() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        yield backend
