"""A gateway with three real workers, clients on all of them, and its admin API."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from typing import TYPE_CHECKING, Any

import trio
from websockets.trio.client import ClientConnection, connect

from support.adminapi import BASIC
from support.backends import start_echo
from support.commands import Serving, port_of, start
from support.gateway import Answer
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CLIENTS = 12  # more than one worker takes


class AdminWorkers(Serving):
    """Three workers, and a way to ask any of them."""

    def __init__(self, process: trio.Process, base: Path) -> None:
        super().__init__(process)
        self._trust = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
        self.admin_port = 0
        self.port = 0

    async def says(self, text: str, times: int = 1) -> None:
        assert self.process.stderr is not None
        with trio.fail_after(30):
            while self.err.count(text) < times:
                data = await self.process.stderr.receive_some()
                assert data, f"ended: {self.err}"
                self.err += data.decode()

    @property
    def pids(self) -> list[int]:
        """The process of each worker, by place."""
        found = {}
        for place, pid in re.findall(r"process (\d+) started \(pid (\d+)\)", self.err):
            found[int(place)] = int(pid)
        return [found[place] for place in sorted(found)]

    async def ask(self, path: str, method: str = "GET", body: object = None) -> Answer:
        """Make a request on a connection of its own, so whoever is free answers."""
        with trio.fail_after(20):
            stream = await trio.open_ssl_over_tcp_stream(
                "localhost", self.admin_port, ssl_context=self._trust, https_compatible=True
            )
            async with stream:
                head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                data = b"" if body is None else json.dumps(body).encode()
                if data:
                    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                await stream.send_all(f"{head}Authorization: {BASIC}\r\n\r\n".encode() + data)
                raw = bytearray()
                while got := await stream.receive_some():
                    raw += got
        return Answer(bytes(raw))

    async def get(self, path: str) -> Any:
        answer = await self.ask(path)
        assert answer.status == 200, answer.body
        return answer.json()


async def start_admin_workers(
    base: Path, running: list[Serving], nursery: trio.Nursery, more: str = ""
) -> AdminWorkers:
    """Start it, with one API on an echo backend."""
    backend = await start_echo(nursery)
    topics = asyncapi({"/t/{name}": {"publish": {}, "x-auth-type": "None"}})
    write(base / "apis", "one", api("One", "/one", backend.url), topics)
    (base / "gateway.toml").write_text('workers = 3\n[log]\nlevel = "debug"\n' + more)
    group = AdminWorkers((await start(base, "run")).process, base)
    running.append(group)
    await group.says(" trio_gw: ready", 3)
    group.port = port_of(group.err)
    line = next(line for line in group.err.splitlines() if "admin API on https://127" in line)
    group.admin_port = int(line.rpartition(":")[2])
    return group


@contextlib.asynccontextmanager
async def connected(group: AdminWorkers) -> AsyncIterator[list[ClientConnection]]:
    """Twelve clients, each of whom has exchanged one message."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for number in range(CLIENTS):
            url = f"ws://127.0.0.1:{group.port}/one/1.0.0/t/c{number}"
            client = await stack.enter_async_context(connect(url, proxy=None, compression=None))
            await client.send("hello")
            assert await client.recv() == "hello"
            clients.append(client)
        yield clients
