"""What a peer sends right behind its handshake: relayed, and little of it is stored."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
import trio

from support.backends import read_head, start_raw
from support.conversation import frame, split_frames
from support.gateway import KEY, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.relay.sizes import CHUNK, RECORD
from trio_gw.wire.frames import BINARY
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1000
_KEY = b"sec-websocket-key: "
COUNT = 100  # messages
REQUEST = (
    b"GET /open/1.0.0/x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


@pytest.mark.parametrize("inspect", [False, True], ids=["frames", "messages"])
async def test_early_frames_are_not_kept(nursery: trio.Nursery, base: Path, inspect: bool) -> None:
    """While a connection lives, the rest of the read that held the 101 is not in memory."""
    message = frame(BINARY, bytes(SIZE))
    behind = message * (CHUNK // len(message))

    async def answer(stream: trio.abc.Stream) -> None:
        head = await read_head(stream)
        key = next(line[19:] for line in head.split(b"\r\n") if line.lower().startswith(_KEY))
        fields = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: ")
        lines = b"\r\n".join((b"HTTP/1.1 101 Switching Protocols", *fields))
        await stream.send_all(lines + accept_key(key) + b"\r\n\r\n" + behind)
        for _ in range(COUNT):
            await stream.send_all(message)
        await trio.sleep_forever()

    backend = await start_raw(nursery, answer)
    topic = {"publish": {}, "x-auth-type": "None", "x-trio-gw-inspect": inspect}
    write(base / "apis", "open", api("Open", "/open", backend.url), asyncapi({"/*": topic}))
    gateway = await start_gateway(nursery, base)
    tracemalloc.start(10)
    try:
        client = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        await client.send_all(REQUEST)
        received = b""
        while b"\r\n\r\n" not in received:
            received += await client.receive_some(1)
        assert received.startswith(b"HTTP/1.1 101 ")
        await trio.testing.wait_all_tasks_blocked(0.1)
        kept = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, "*/trio_gw/wire/*", all_frames=True)]
        )
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in kept.traces) < RECORD
    got = 0
    received = b""
    while got < CHUNK // len(message) + COUNT:
        received += await client.receive_some()
        frames, received = split_frames(received)
        assert all(seen.payload == bytes(SIZE) for seen in frames)
        got += len(frames)
    await client.aclose()
