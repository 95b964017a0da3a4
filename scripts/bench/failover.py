"""Measure two backends while one of them is killed under traffic and restarted.

A client connects every 100 ms, asks for the name of the backend, and closes. The script measures
load balancing and failover, with default settings. It ends within two minutes.
"""

from __future__ import annotations

import json
import math
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve

PACE = 0.1  # seconds between two connections
CALM = 4.0  # seconds of traffic before and after each event
BACK_AT_MOST = 45.0


class Sample(NamedTuple):
    """One connection: start, duration, and the backend that answered (or the error)."""

    at: float
    spent: float
    who: str
    failed: bool


async def backend(name: str, port: int) -> None:
    """Run a backend that sends its name; prints the port."""

    async def handler(connection: ServerConnection) -> None:
        try:
            await connection.send(name)
            await connection.recv()
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda task_status: serve(handler, port, host="127.0.0.1", task_status=task_status)
        )
        print("port", server.listeners[0].socket.getsockname()[1], flush=True)


async def first(process: trio.Process, text: str) -> str:
    """Read the output of a process up to a line that contains a text; returns that line."""
    pipe = process.stdout
    assert pipe is not None
    said = ""
    with trio.fail_after(20):
        while True:
            for line in said.splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line.strip()
            data = await pipe.receive_some()
            assert data, f"it ended: {said}"
            said += data.decode()


class Scene:
    """The processes of one run; all are ended with it."""

    def __init__(self, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self._stack = stack
        self._nursery = nursery

    async def start(self, *arguments: str, cwd: Path | None = None) -> trio.Process:
        """Start a process of this Python."""
        process = await trio.lowlevel.open_process(
            [sys.executable, *arguments],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._stack.push_async_callback(self.kill, process)
        return process

    async def kill(self, process: trio.Process) -> None:
        """Kill one process (SIGKILL), as in a crash."""
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()

    async def backend(self, name: str, port: int = 0) -> tuple[trio.Process, int]:
        """Start a backend; returns when it is listening."""
        process = await self.start(__file__, "backend", name, str(port))
        return process, int((await first(process, "port ")).removeprefix("port "))

    async def gateway(self, folder: Path) -> int:
        """Start the gateway on a folder with `apis`; returns its port."""
        process = await self.start("-m", "trio_gw", "run", cwd=folder)
        line = await first(process, "listening on http://127")
        self._nursery.start_soon(self._drain, process)
        return int(line.rpartition(":")[2])

    async def _drain(self, process: trio.Process) -> None:
        assert process.stdout is not None
        while await process.stdout.receive_some():
            pass


def project(folder: Path, kind: str, ports: list[int]) -> None:
    """Write settings and an API with two backends."""
    urls = [{"url": f"ws://127.0.0.1:{port}"} for port in ports]
    config: dict[str, object] = {"production_endpoints": urls}
    if kind == "failover":
        config = {"production_endpoints": urls[0], "production_failovers": urls[1:]}
    data = {
        "name": "F",
        "version": "1.0.0",
        "context": "/f",
        "type": "WS",
        "endpointConfig": config,
    }
    api = folder / "apis" / "f"
    (api / "Definitions").mkdir(parents=True)
    (api / "api.yaml").write_text(json.dumps({"data": data}))
    channels = {"/t": {"publish": {}, "x-auth-type": "None"}}
    definition = {"asyncapi": "2.6.0", "channels": channels}
    (api / "Definitions" / "asyncapi.yaml").write_text(json.dumps(definition))
    listen = 'http = "localhost:0"\nhttps = ""\nadmin = ""\n'
    (folder / "gateway.toml").write_text(f"[listen]\n{listen}")


class Traffic:
    """Connections at a constant rate, with their results."""

    def __init__(self, url: str) -> None:
        self.samples: list[Sample] = []
        self._url = url
        self._news = trio.Event()

    async def run(self) -> None:
        """Connect until cancelled; a slow connection does not delay the next one."""
        async with trio.open_nursery() as nursery:
            due = trio.current_time()
            while True:
                nursery.start_soon(self._one)
                due += PACE
                await trio.sleep_until(due)

    async def _one(self) -> None:
        start = time.perf_counter()
        failed = True
        try:
            with trio.fail_after(10):
                async with connect(self._url, proxy=None) as client:
                    who, failed = str(await client.recv()), False
        except InvalidStatus as error:
            who = str(error.response.status_code)
        except (ConnectionClosed, OSError, trio.TooSlowError) as error:
            who = type(error).__name__
        self.samples.append(Sample(start, time.perf_counter() - start, who, failed))
        self._news.set()
        self._news = trio.Event()

    async def answered_by(self, name: str, since: float) -> float:
        """Wait for a later connection that this backend answers; returns its start."""
        while True:
            for sample in self.samples:
                if sample.at >= since and sample.who == name:
                    return sample.at
            await self._news.wait()

    def row(self, title: str, start: float, end: float) -> str:
        """Summarize the connections that began in an interval."""
        chosen = [sample for sample in self.samples if start <= sample.at < end]
        spent = sorted(sample.spent * 1e3 for sample in chosen)
        who = [sum(sample.who == name for sample in chosen) for name in ("one", "two")]
        failed = sum(sample.failed for sample in chosen)
        late = spent[min(len(spent) - 1, math.ceil(len(spent) * 0.99) - 1)]
        cells = f"{len(chosen)} | {failed} | {who[0]} | {who[1]}"
        return (
            f"| {title} | {cells} | {statistics.median(spent):.1f} | {late:.1f} | {spent[-1]:.1f} |"
        )


async def measure(kind: str) -> None:
    """Run one scenario and print its table."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scene = Scene(stack, nursery)
        one, port = await scene.backend("one")
        _, other = await scene.backend("two")
        project(folder, kind, [port, other])
        traffic = Traffic(f"ws://localhost:{await scene.gateway(folder)}/f/1.0.0/t")
        nursery.start_soon(traffic.run)
        await trio.sleep(CALM)
        begin = traffic.samples[0].at
        killed = time.perf_counter()
        await scene.kill(one)
        over = await traffic.answered_by("two", killed) - killed
        await trio.sleep(CALM)
        back = time.perf_counter()
        await scene.backend("one", port)
        with trio.fail_after(BACK_AT_MOST):
            returned = await traffic.answered_by("one", back)
        await trio.sleep(CALM)
        end = time.perf_counter() - 0.5
        print(f"\n### {kind}\n")
        head = ("phase", "connections", "failed", "one", "two", "median, ms", "99 %", "worst")
        print(f"| {' | '.join(head)} |\n|---|---:|---:|---:|---:|---:|---:|---:|")
        print(traffic.row("both are up", begin, killed))
        print(traffic.row("one is killed", killed, back))
        print(traffic.row("one is started again", back, returned))
        print(traffic.row("one is back", returned, end))
        print(f"\nThe first connection that the other backend took began {over * 1e3:.0f} ms after")
        print(f"the kill; the first that one took again, {returned - back:.1f} s after its start.")
        nursery.cancel_scope.cancel()


async def main() -> None:
    """Measure load balancing and failover."""
    print("\nTwo backends, one killed and brought back; a connection every 100 ms.")
    for kind in ("load_balance", "failover"):
        await measure(kind)


if __name__ == "__main__":
    if sys.argv[1:2] == ["backend"]:
        trio.run(backend, sys.argv[2], int(sys.argv[3]))
    else:
        trio.run(main)
