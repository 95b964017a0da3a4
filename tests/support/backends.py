"""Backends: the mock of the reference's tests, and raw ones that misbehave."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TOPICS = {"/v2/notifications", "/v2/rooms?room=room1", "/v2/noMapping"}


class Backend(NamedTuple):
    """A running backend; `requests` holds what handshakes it saw, in order."""

    port: int
    requests: list[Any]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


async def start_mock(nursery: trio.Nursery) -> Backend:
    """Start the mock backend under `/v2`."""

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        suffix = f":{path.removeprefix('/v2')}" if path in TOPICS else ""
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await connection.recv()
                if isinstance(message, bytes):
                    await connection.send(message)
                elif len(message) > 100:
                    await connection.send(f"Message large payload received.{suffix}")
                else:
                    await connection.send(f"Message received: {message}{suffix}")

    return await start_backend(nursery, handler)


async def start_echo(nursery: trio.Nursery, **options: Any) -> Backend:
    """Start a backend that echoes messages of any size, with the options of `websockets`."""

    async def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(await connection.recv())

    return await start_backend(nursery, handler, max_size=None, **options)


async def start_backend(
    nursery: trio.Nursery,
    handler: Callable[[ServerConnection], Awaitable[None]],
    **options: Any,
) -> Backend:
    """Start a WebSocket backend with any handler."""
    requests: list[Any] = []

    async def recording(connection: ServerConnection) -> None:
        requests.append(connection.request)
        await handler(connection)

    def start(task_status: trio.TaskStatus[Any]) -> Awaitable[None]:
        where: dict[str, Any] = {"port": 0, "host": "127.0.0.1"} | options
        return serve(recording, task_status=task_status, **where)

    server = await nursery.start(lambda task_status: start(task_status))
    return Backend(server.listeners[0].socket.getsockname()[1], requests)


async def start_raw(
    nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]
) -> Backend:
    """Start a TCP backend; `handler` gets each connection, which is closed after it."""
    requests: list[Any] = []

    async def one(stream: trio.SocketStream) -> None:
        requests.append(None)
        async with stream:
            await handler(stream)

    listeners = await nursery.start(trio.serve_tcp, one, 0)
    return Backend(listeners[0].socket.getsockname()[1], requests)


def answering(
    answer: bytes, seen: list[bytes] | None = None
) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Build a backend that reads one head, answers these bytes, and notes all it gets after."""

    async def handler(stream: trio.SocketStream) -> None:
        head = await read_head(stream)
        if seen is not None:
            seen.append(head)
        with contextlib.suppress(trio.BrokenResourceError):  # refused before all of it was read
            await stream.send_all(answer)
            await stream.send_eof()
            while data := await stream.receive_some():
                if seen is not None:
                    seen.append(data)

    return handler


async def read_head(stream: trio.abc.Stream) -> bytes:
    """Read up to and including the blank line of a head; fails when the peer closes first."""
    head = bytearray()
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some()
        assert data, f"connection closed after {bytes(head)!r}"
        head += data
    return bytes(head)
