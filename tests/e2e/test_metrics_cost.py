"""What counting costs: processor time per relayed message with metrics on, beside off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from support.backends import read_head, start_raw
from support.commands import Serving, port_of, start
from support.conversation import frame
from support.projects import api, asyncapi, write
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
CONNECTIONS, MESSAGES = 20, 100
ROUNDS, AT_MOST = 5, 25  # a disturbed round says too much: the best of each counts
MOST = 1.15
REQUEST = (
    b"GET /one/1.0.0/a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
MESSAGE = frame(2, b"x" * 100, key=b"1234")


async def backend(stream: trio.SocketStream) -> None:
    await read_head(stream)
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: " + accept_key(KEY) + b"\r\n\r\n"
    )
    while data := await stream.receive_some():
        await stream.send_all(frame(2, b"x" * (len(data) - 6)))


async def talk(stream: trio.SocketStream) -> None:
    for _ in range(MESSAGES):
        await stream.send_all(MESSAGE)
        left = len(MESSAGE) - 4
        while left > 0:
            left -= len(await stream.receive_some())


def processor_time(serving: Serving) -> int:
    """Read the nanoseconds for which the process has run."""
    with open(f"/proc/{serving.process.pid}/schedstat") as file:
        return int(file.read().split()[0])


async def test_metrics_cost_little(
    base: Path, running: list[Serving], nursery: trio.Nursery
) -> None:
    other = await start_raw(nursery, backend)
    url = f"ws://127.0.0.1:{other.port}"
    topic = {"publish": {}, "x-auth-type": "None"}
    write(base / "apis", "one", api("One", "/one", url), asyncapi({"/a": topic}))
    gateways: list[tuple[Serving, list[trio.SocketStream]]] = []
    spent: list[list[int]] = [[], []]
    for enabled in ("true", "false"):
        serving = await start(base, "run", TRIO_GW_METRICS_ENABLED=enabled)
        running.append(serving)
        port = port_of(await serving.read_until("err", "listening on https://["))
        streams = []
        for _ in range(CONNECTIONS):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(REQUEST)
            assert (await read_head(stream)).startswith(b"HTTP/1.1 101 ")
            streams.append(stream)
        gateways.append((serving, streams))
    with trio.fail_after(120):
        for done in range(AT_MOST):
            if done >= ROUNDS and min(spent[0]) <= MOST * min(spent[1]):
                break
            for (serving, streams), times in zip(gateways, spent, strict=True):
                before = processor_time(serving)
                async with trio.open_nursery() as talking:
                    for stream in streams:
                        talking.start_soon(talk, stream)
                times.append(processor_time(serving) - before)
    for _, streams in gateways:
        for stream in streams:
            await stream.aclose()
    ratio = min(spent[0]) / min(spent[1])
    print(f"metrics on / off: {ratio:.3f}, {min(spent[0]) / CONNECTIONS / MESSAGES / 1e3:.1f} us")
    assert ratio <= MOST
