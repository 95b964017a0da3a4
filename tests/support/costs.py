"""What something costs: processor time per relayed message of one gateway beside another's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from support.backends import read_head, start_raw
from support.commands import Serving, port_of, start
from support.conversation import frame
from support.projects import api, asyncapi, write
from trio_gw import compiled
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
CONNECTIONS = 20
ROUNDS, AT_MOST = 5, 25  # a disturbed round says too much: the best of each counts
REQUEST = (
    b"GET /one/1.0.0/a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
MESSAGE, ANSWER = frame(2, b"x" * 100, key=b"1234"), frame(2, b"x" * 100)


async def backend(stream: trio.SocketStream) -> None:
    """Answer the handshake, and every message with one of the same size."""
    await read_head(stream)
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: " + accept_key(KEY) + b"\r\n\r\n"
    )
    octets = 0
    while data := await stream.receive_some():
        whole, octets = divmod(octets + len(data), len(MESSAGE))
        if whole:
            await stream.send_all(ANSWER * whole)


class Talkers(NamedTuple):
    """A gateway's process, and connections through it."""

    serving: Serving
    streams: list[trio.SocketStream]

    async def talk(self, messages: int, at_once: int) -> int:
        """Have messages echoed, so many at once; returns nanoseconds of processor time."""

        async def one(stream: trio.SocketStream) -> None:
            for _ in range(messages // at_once):
                await stream.send_all(MESSAGE * at_once)
                left = len(ANSWER) * at_once
                while left > 0:
                    left -= len(await stream.receive_some())

        before = self._spent()
        async with trio.open_nursery() as nursery:
            for stream in self.streams:
                nursery.start_soon(one, stream)
        return self._spent() - before

    def _spent(self) -> int:
        with open(f"/proc/{self.serving.process.pid}/schedstat") as file:
            return int(file.read().split()[0])


async def talkers(
    base: Path,
    running: list[Serving],
    nursery: trio.Nursery,
    settings: str,
    *,
    tier: str = "",
    topic: dict[str, str] | None = None,
) -> Talkers:
    """Start a gateway in a folder, with these settings and this topic, and connect.

    `tier` is that of the API.
    """
    (base / "apis").mkdir(parents=True, exist_ok=True)
    (base / "gateway.toml").write_text(settings)
    other = await start_raw(nursery, backend)
    channel = {"publish": topic or {}, "x-auth-type": "None"}
    meta = api("One", "/one", f"ws://127.0.0.1:{other.port}", apiThrottlingPolicy=tier)
    write(base / "apis", "one", meta, asyncapi({"/a": channel}))
    relay = {} if compiled.in_use() else {compiled.PURE: "1"}
    serving = await start(base, "run", **relay)
    running.append(serving)
    port = port_of(await serving.read_until("err", "listening on https://["))
    streams = []
    for _ in range(CONNECTIONS):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(REQUEST)
        assert (await read_head(stream)).startswith(b"HTTP/1.1 101 ")
        streams.append(stream)
    return Talkers(serving, streams)


async def ratio(pair: tuple[Talkers, Talkers], messages: int, at_once: int, enough: float) -> float:
    """Measure both in turn until the first costs at most `enough` times the second, or for long."""
    spent: list[list[int]] = [[], []]
    with trio.fail_after(120):
        for done in range(AT_MOST):
            if done >= ROUNDS and min(spent[0]) <= enough * min(spent[1]):
                break
            for one, times in zip(pair, spent, strict=True):
                times.append(await one.talk(messages, at_once))
    return min(spent[0]) / min(spent[1])


async def leave(pair: Iterable[Talkers]) -> None:
    """Close all connections."""
    for one in pair:
        for stream in one.streams:
            await stream.aclose()
