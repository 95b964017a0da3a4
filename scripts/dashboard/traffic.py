"""A gateway with everything that the dashboard shows: traffic, limits, faults, changes."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.backends import read_head
from support.peers import Peers
from support.projects import api, asyncapi, write

OPEN = {"publish": {}, "x-auth-type": "None"}
SETTINGS = """
workers = 2
[listen]
http = "localhost:0"
https = ""
admin = ""
[metrics]
listen = "localhost:0"
[log]
access = "off"
format = "text"
[limits]
connections_per_api = 12
[tiers.Some]
events = 60
per = "4s"
[tiers.Patient]
events = 60
per = "4s"
on_exceed = "pause"
[analytics]
enabled = true
detail = "frames"
sinks = ["http"]
url = "http://127.0.0.1:1/nobody"
queue = 100
[[deny]]
api = "/shut/1.0"
"""
REQUEST = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class World:
    """A gateway and its load."""

    def __init__(self, base: Path, port: int, seconds: float) -> None:
        self.base = base
        self.port = port
        self.peers = Peers(int(seconds))
        self.until = trio.current_time() + seconds

    async def connect(self, path: str) -> trio.SocketStream:
        """Make a handshake; raises `OSError` if it is refused."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await stream.send_all(REQUEST % path.encode())
        if not (await read_head(stream)).startswith(b"HTTP/1.1 101 "):
            await stream.aclose()
            raise ConnectionRefusedError(path)
        return stream

    async def visits(self, api_name: str, topic: str) -> None:
        """Let one client connect repeatedly until the time is over."""
        while trio.current_time() < self.until:
            # Whoever is there at the end may leave: the backend counts on it.
            with suppress(OSError), trio.fail_at(self.until + 10):
                await self.peers.visit(topic, lambda name: self.connect(f"/{api_name}/1.0/{name}"))

    async def flood(self, api_name: str) -> None:
        """Send more than the limits allow, and read the results."""
        while trio.current_time() < self.until:
            with suppress(OSError), trio.move_on_at(self.until):
                stream = await self.connect(f"/{api_name}/1.0/a")
                async with stream, trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, stream)
                    for _ in range(500):
                        await stream.send_all(b"\x82\x84\0\0\0\0ping")
                        await trio.sleep(0.02)
                    nursery.cancel_scope.cancel()

    async def _read(self, stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass

    async def knocks(self) -> None:
        """Make requests that are refused: backend down, no topic, too many connections, denied."""
        async with trio.open_nursery() as nursery:
            for _ in range(14):
                nursery.start_soon(self._stay, "/full/1.0/a")
            while trio.current_time() < self.until:
                for path in ("/gone/1.0/a", "/nowhere", "/full/1.0/a", "/shut/1.0/a"):
                    with suppress(OSError):
                        await (await self.connect(path)).aclose()
                await trio.sleep(0.3)

    async def _stay(self, path: str) -> None:
        with suppress(OSError):
            async with await self.connect(path):
                await trio.sleep_until(self.until)

    async def changes(self) -> None:
        """Change a project repeatedly."""
        version = 0
        while trio.current_time() < self.until:
            version += 1
            topics = {f"/{number}": OPEN for number in range(1 + version % 3)}
            write(self.base / "apis", "late", api("Late", "/late", "ws://127.0.0.1:1"),
                  asyncapi(topics))  # fmt: skip
            await trio.sleep_until(min(self.until, trio.current_time() + 8))


async def echo(stream: trio.SocketStream) -> None:
    """Serve a backend that echoes each small message, unmasked."""
    head = await read_head(stream)
    assert b"dGhlIHNhbXBsZSBub25jZQ==" in head
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    with suppress(trio.BrokenResourceError):
        async for data in stream:
            await stream.send_all(b"\x82\x04ping" * max(1, len(data) // 10))


def projects(base: Path, peers: str, other: str) -> None:
    """Write the projects: for `Peers`, for `echo`, without a backend, and a broken one."""
    write(base / "apis", "chat", api("Chat", "/chat", peers, version="1.0"),
          asyncapi({"/a": OPEN, "/b": OPEN}))  # fmt: skip
    for name, tier, url in (
        ("news", "Some", other),
        ("slow", "Patient", other),
        ("full", "", other),
        ("shut", "", other),
        ("gone", "", "ws://127.0.0.1:1"),
    ):
        write(base / "apis", name,
              api(name.title(), f"/{name}", url, version="1.0", apiThrottlingPolicy=tier),
              asyncapi({"/a": OPEN}))  # fmt: skip
    (base / "apis" / "broken").mkdir()
    (base / "apis" / "broken" / "api.yaml").write_text("type: api\ndata: {}\n")
