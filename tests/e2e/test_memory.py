"""More connections than there is memory for: a real process, with a real limit."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from support.backends import start_echo
from support.commands import port_of, start
from support.gateway import KEY
from support.numbers import scraped, total
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from support.commands import Serving

OPEN = {"publish": {}, "x-auth-type": "None"}
ROOM = 12 << 20  # bytes beyond what it takes without connections
MANY = 3000
ASK = (
    b"GET /open/1.0.0/x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
READY = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def ask(port: int, request: bytes) -> tuple[trio.SocketStream, bytes]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    answer = b""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(request)
        while b"\r\n\r\n" not in answer and (data := await stream.receive_some()):
            answer += data
    return stream, answer


async def status(port: int, request: bytes) -> bytes:
    stream, answer = await ask(port, request)
    await stream.aclose()
    return answer[9:12]


def address_space(pid: int) -> int:
    statm = Path(f"/proc/{pid}/statm").read_text()
    return int(statm.split()[0]) * resource.getpagesize()


async def test_more_connections_than_there_is_memory_for(
    base: Path, nursery: trio.Nursery, running: list[Serving]
) -> None:
    echo = await start_echo(nursery)
    write(base / "apis", "open", api("Open", "/open", echo.url), asyncapi({"/*": OPEN}))
    serving = await start(base, "run", TRIO_GW_METRICS_LISTEN="localhost:0")
    running.append(serving)
    await serving.read_until("err", "listening on metrics://127")
    port, metrics = port_of(serving.err), port_of(serving.err, "metrics")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with contextlib.AsyncExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        opened = []
        with trio.fail_after(120):
            assert await status(port, READY) == b"200"
            most = address_space(serving.process.pid) + ROOM
            resource.prlimit(serving.process.pid, resource.RLIMIT_AS, (most, most))
            while True:
                stream, answer = await ask(port, ASK)
                await stack.enter_async_context(stream)
                if b" 101 " not in answer:
                    break
                opened.append(stream)
                assert len(opened) < MANY
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in answer
            assert await status(port, READY) == b"503"
            for _ in range(50):
                assert await status(port, ASK) in (b"503", b"")
            assert total(await scraped(metrics), "trio_gw_overloaded") == 1
            await serving.read_until("err", "memory is short")
            # Those that are open go on, and when there are fewer, others are let in again.
            await opened[0].send_all(b"\x81\x82\0\0\0\0hi")
            assert await opened[0].receive_some() == b"\x81\x02hi"
            for stream in opened[1:]:
                await stream.aclose()
            while await status(port, ASK) != b"101":
                pass
        assert serving.process.poll() is None
