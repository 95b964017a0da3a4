"""A worker that hangs: the other one serves, says so, and it is replaced."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import trio
from websockets.trio.client import connect

from support.backends import start_echo
from support.gateway import Answer
from support.workers import WorkerGroup, start_workers

if TYPE_CHECKING:
    from pathlib import Path

    from support.commands import Serving

METRICS = '[metrics]\nlisten = "127.0.0.1:0"\n'


async def get(port: int, path: str) -> Answer:
    got = bytearray()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while data := await stream.receive_some():
            got += data
    return Answer(bytes(got))


async def exchange(group: WorkerGroup) -> None:
    url = f"ws://127.0.0.1:{group.port}/one/1.0.0/t"
    async with connect(url, proxy=None) as client:
        await client.send("x")
        assert await client.recv() == "x"


async def test_the_other_serves_until_it_is_replaced(base: Path, running: list[Serving]) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        more = f"worker_timeout = 8\n{METRICS}"
        group = await start_workers(base, running, backend.url, 2, more)
        found = re.search(r"listening on metrics://127\.0\.0\.1:(\d+)", group.err)
        assert found
        numbers = int(found[1])
        pids = await group.workers(2)
        os.kill(pids[0], signal.SIGSTOP)  # the one that has the tasks of the first, too
        # Who connects before anybody knows gets to the other, or waits for its replacement.
        await group.says("has not responded for 3 s: it is stopped, by a signal such as SIGSTOP;")
        with trio.fail_after(4):  # it is killed in 5 s
            for _ in range(20):
                await exchange(group)
            assert json.loads((await get(group.port, "/ready")).body) == {
                "status": "ready",
                "unresponsive": [1],
            }
            text = (await get(numbers, "/metrics")).body.decode()
        assert 'trio_gw_worker_unresponsive_seconds{worker="1"} 3.0' in text
        assert 'trio_gw_worker_unresponsive_seconds{worker="2"} 0.0' in text
        assert 'trio_gw_workers_killed_total{worker="1"} 0.0' in text
        await group.says("has not responded for 8 s: killed")
        await group.says(" worker 1 trio_gw: ready", 2)
        after = await group.workers(3)
        assert (after[0] != pids[0], after[1] == pids[1]) == (True, True)
        assert await group.ready() == b'200 {"status": "ready"}'
        text = (await get(numbers, "/metrics")).body.decode()
        assert 'trio_gw_worker_unresponsive_seconds{worker="1"} 0.0' in text
        assert 'trio_gw_workers_killed_total{worker="1"} 1.0' in text
        group.process.terminate()
        with trio.fail_after(20):
            assert await group.process.wait() == 0
        assert "Traceback" not in await group.rest()
        nursery.cancel_scope.cancel()
