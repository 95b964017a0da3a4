"""`trio-gw run` with several workers, in processes of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import trio

from support.commands import Serving, port_of, start
from support.gateway import Answer
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

OPEN = {"publish": {}, "x-auth-type": "None"}


class WorkerGroup(Serving):
    """A gateway with several workers."""

    port = 0

    async def workers(self, lines: int) -> list[int]:
        """Wait for so many lines of a worker's birth; returns the process of each, by place."""
        with trio.fail_after(30):
            while self.err.count("started (pid ") < lines:
                await self.more()
        found: dict[int, int] = {}
        for place, pid in re.findall(r"process (\d+) started \(pid (\d+)\)", self.err):
            found[int(place)] = int(pid)
        return [found[place] for place in sorted(found)]

    async def more(self) -> None:
        assert self.process.stderr is not None
        data = await self.process.stderr.receive_some()
        assert data, f"ended: {self.err}"
        self.err += data.decode()

    async def says(self, text: str, times: int = 1) -> None:
        with trio.fail_after(30):
            while self.err.count(text) < times:
                await self.more()

    async def ready(self) -> bytes:
        """Ask a worker, whichever accepts, about all of them."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        got = bytearray()
        async with stream:
            await stream.send_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while data := await stream.receive_some():
                got += data
        answer = Answer(bytes(got))
        return b"%d %s" % (answer.status, answer.body)


async def start_workers(
    base: Path, running: list[Serving], url: str, count: int = 3, more: str = ""
) -> WorkerGroup:
    (base / "gateway.toml").write_text(f"workers = {count}\n{more}")
    write(base / "apis", "one", api("One", "/one", url), asyncapi({"/t": OPEN}))
    group = WorkerGroup((await start(base, "run")).process)
    running.append(group)
    await group.says(" trio_gw: ready", count)
    group.port = port_of(group.err)
    return group
