"""Answers that last for hours over the HTTP/1.1 server of the admin listener."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio
from starlette.responses import StreamingResponse

from trio_gw.admin import http1
from trio_gw.admin.server import AdminServer
from trio_gw.proxy.tls_failures import TlsFailures
from trio_gw.relay.plain import PlainStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest
    from starlette.types import Receive, Scope, Send


class Streamed:
    """An application that streams what it is told to, and says when that is over."""

    def __init__(self) -> None:
        self.chunks, self.out = trio.open_memory_channel[str](0)
        self.ended = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["scheme"] == "http"
        scope["extensions"][http1.AUTHENTICATED]()

        async def events() -> AsyncIterator[str]:
            yield "retry: 2000\n\n"
            async for chunk in self.out:
                yield chunk

        try:
            await StreamingResponse(events())(scope, receive, send)
        finally:
            self.ended.set()


async def served(nursery: trio.Nursery, app: Streamed) -> trio.SocketStream:
    """Serve one connection without TLS; returns its other end, with a request sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mine = await trio.open_tcp_stream(*listener.getsockname())
        theirs, _ = listener.accept()
    theirs.setblocking(False)
    server = AdminServer(app, None, TlsFailures())
    nursery.start_soon(server.handle, PlainStream(theirs), "127.0.0.1")
    await mine.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return mine


async def until(stream: trio.SocketStream, text: bytes) -> bytes:
    """Read until `text` has come."""
    data = bytearray()
    with trio.fail_after(10):
        while text not in data:
            more = await stream.receive_some()
            assert more, data
            data += more
    return bytes(data)


async def test_each_chunk_comes_at_once_whatever_the_time_between(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    app = Streamed()
    async with await served(nursery, app) as stream:
        head = await until(stream, b"retry: 2000")
        assert b"transfer-encoding: chunked" in head.lower()
        for number in range(3):
            # Longer than every deadline of a request.
            await trio.sleep(3600)
            await app.chunks.send(f"data: {number}\n\n")
            assert f"data: {number}".encode() in await until(stream, b"\n\n")
        assert not app.ended.is_set()
        await app.chunks.aclose()
        await until(stream, b"0\r\n\r\n")
        await app.ended.wait()


async def test_a_client_that_leaves_ends_the_stream(nursery: trio.Nursery) -> None:
    app = Streamed()
    async with await served(nursery, app) as stream:
        await until(stream, b"retry: 2000")
    with trio.fail_after(10):
        await app.ended.wait()


async def test_a_client_that_does_not_read_ends_the_stream(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "SEND_TIMEOUT", 0.2)
    app = Streamed()
    stream = await served(nursery, app)
    async with stream, app.chunks:
        await until(stream, b"retry: 2000")
        with trio.fail_after(20):
            while not app.ended.is_set():
                with trio.move_on_after(1):
                    await app.chunks.send("x" * 100_000)


async def test_a_request_behind_a_stream_has_to_wait(nursery: trio.Nursery) -> None:
    app = Streamed()
    async with await served(nursery, app) as stream:
        await until(stream, b"retry: 2000")
        await stream.send_all(b"GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await app.chunks.send("data: still\n\n")
        assert b"data: still" in await until(stream, b"\n\n")
        await app.chunks.aclose()
        answers = await until(stream, b"retry: 2000")
        assert answers.index(b"0\r\n\r\n") < answers.index(b"200 OK")
