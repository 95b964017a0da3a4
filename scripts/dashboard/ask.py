"""Every question of the dashboard, put to a Prometheus that scrapes a gateway under traffic."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from panels import Panel, Series, draw

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.backends import read_head
from support.commands import Serving, start
from support.peers import Peers
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "trio-gw.json"
PICTURE = DASHBOARD.with_suffix(".svg")
RATE = "5s"  # what Grafana would put in for $__rate_interval; Prometheus scrapes every second
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
"""
REQUEST = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class World:
    """A gateway, and what goes on in it."""

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
        """Let one client come again and again, until the time is over."""
        while trio.current_time() < self.until:
            with suppress(OSError), trio.move_on_at(self.until):
                await self.peers.visit(topic, lambda name: self.connect(f"/{api_name}/1.0/{name}"))

    async def flood(self, api_name: str) -> None:
        """Send what no limit lets pass, and read what comes of it."""
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
        """Ask for what is refused: nobody there, nothing there, and too many."""
        async with trio.open_nursery() as nursery:
            for _ in range(14):
                nursery.start_soon(self._stay, "/full/1.0/a")
            while trio.current_time() < self.until:
                for path in ("/gone/1.0/a", "/nowhere", "/full/1.0/a"):
                    with suppress(OSError):
                        await (await self.connect(path)).aclose()
                await trio.sleep(0.3)

    async def _stay(self, path: str) -> None:
        with suppress(OSError):
            async with await self.connect(path):
                await trio.sleep_until(self.until)

    async def changes(self) -> None:
        """Change a project now and then."""
        version = 0
        while trio.current_time() < self.until:
            version += 1
            topics = {f"/{number}": OPEN for number in range(1 + version % 3)}
            write(self.base / "apis", "late", api("Late", "/late", "ws://127.0.0.1:1"),
                  asyncapi(topics))  # fmt: skip
            await trio.sleep(8)


async def echo(stream: trio.SocketStream) -> None:
    """Serve a backend that sends every small message back, unmasked."""
    head = await read_head(stream)
    assert b"dGhlIHNhbXBsZSBub25jZQ==" in head
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    with suppress(trio.BrokenResourceError):
        async for data in stream:
            await stream.send_all(b"\x82\x04ping" * max(1, len(data) // 10))


async def main(arguments: argparse.Namespace) -> int:
    """Run it all; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        async with trio.open_nursery() as nursery:
            code = await _observed(arguments, base, nursery)
            nursery.cancel_scope.cancel()
        return code


async def _observed(arguments: argparse.Namespace, base: Path, nursery: trio.Nursery) -> int:
    other = (await nursery.start(trio.serve_tcp, echo, 0))[0].socket.getsockname()[1]
    peers = Peers()
    backend = await peers.start_backend(nursery)
    (base / "gateway.toml").write_text(SETTINGS)
    write(base / "apis", "chat", api("Chat", "/chat", backend.url, version="1.0"),
          asyncapi({"/a": OPEN, "/b": OPEN}))  # fmt: skip
    for name, tier, url in (
        ("news", "Some", f"ws://127.0.0.1:{other}"),
        ("slow", "Patient", f"ws://127.0.0.1:{other}"),
        ("full", "", f"ws://127.0.0.1:{other}"),
        ("gone", "", "ws://127.0.0.1:1"),
    ):
        write(base / "apis", name,
              api(name.title(), f"/{name}", url, version="1.0", apiThrottlingPolicy=tier),
              asyncapi({"/a": OPEN}))  # fmt: skip
    (base / "apis" / "broken").mkdir()
    (base / "apis" / "broken" / "api.yaml").write_text("type: api\ndata: {}\n")
    serving = await start(base, "run", TRIO_GW_LISTEN_HTTPS="", TRIO_GW_LISTEN_ADMIN="")
    watcher = None
    try:
        while serving.err.count(": ready") < 2:
            assert serving.process.stderr is not None
            data = await serving.process.stderr.receive_some()
            assert data, serving.err
            serving.err += data.decode()
        nursery.start_soon(_drain, serving)
        ports = dict(re.findall(r"listening on (http|metrics)://127\.0\.0\.1:(\d+)", serving.err))
        watcher, url = _prometheus(base, int(ports["metrics"]))
        world = World(base, int(ports["http"]), arguments.seconds)
        world.peers = peers
        begin = time.time()
        async with trio.open_nursery() as traffic:
            for topic in "aabb":
                traffic.start_soon(world.visits, "chat", topic)
            for name in ("news", "slow"):
                traffic.start_soon(world.flood, name)
            traffic.start_soon(world.knocks)
            traffic.start_soon(world.changes)
        return await trio.to_thread.run_sync(_ask, url, begin, time.time(), arguments.write)
    finally:
        for process in (serving.process, watcher):
            if process is not None:
                process.terminate()
        with trio.CancelScope(shield=True):
            await serving.process.wait()
        if watcher is not None:
            watcher.wait()


async def _drain(serving: Serving) -> None:
    assert serving.process.stderr is not None
    while await serving.process.stderr.receive_some():
        pass


def _prometheus(base: Path, port: int) -> tuple[subprocess.Popen[bytes], str]:
    """Start Prometheus; returns it and where it answers."""
    with trio.socket.socket() as found:
        found._sock.bind(("127.0.0.1", 0))
        own = found.getsockname()[1]
    config = base / "prometheus.yml"
    target = {"targets": [f"127.0.0.1:{port}"]}
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [{"job_name": "trio-gw", "static_configs": [target]}],
            }
        )
    )
    watcher = subprocess.Popen(
        [os.environ["PROMETHEUS"], f"--config.file={config}",
         f"--web.listen-address=127.0.0.1:{own}", f"--storage.tsdb.path={base / 'data'}",
         "--log.level=error"],
    )  # fmt: skip
    return watcher, f"http://127.0.0.1:{own}"


def _ask(url: str, begin: float, end: float, write_picture: bool) -> int:
    """Put every question; returns 1 if one has no answer."""
    missing = 0
    panels = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        series: list[Series] = []
        for target in panel.get("targets", ()):
            found = list(_answers(url, target, begin, end))
            missing += not found
            print(f"{len(found):3} series  {panel['title']}: {target['expr']}")
            series += found
        unit = panel["fieldConfig"]["defaults"].get("unit", "")
        panels.append(Panel(panel["title"], unit, series))
    print("every question has an answer" if not missing else f"{missing} have none")
    if write_picture and not missing:
        PICTURE.write_text(draw(panels, begin, end))
    return int(missing > 0)


def _answers(url: str, target: dict[str, str], begin: float, end: float) -> Iterator[Series]:
    query = target["expr"].replace("$__rate_interval", RATE)
    asked = urllib.parse.urlencode({"query": query, "start": begin, "end": end, "step": 1})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=10) as answer:  # noqa: S310
        result = json.load(answer)
    assert result["status"] == "success", result
    for one in result["data"]["result"]:
        points = [(moment, float(value)) for moment, value in one["values"]]
        points = [point for point in points if math.isfinite(point[1])]
        legend = target.get("legendFormat", "")
        name = legend
        for label in re.findall(r"{{(\w+)}}", legend):
            name = name.replace("{{" + label + "}}", one["metric"].get(label, ""))
        if points:
            yield Series(name or "all", points)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--write", action="store_true")
    sys.exit(trio.run(main, parser.parse_args()))
