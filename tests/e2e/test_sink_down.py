"""A server of analytics that goes away and comes back: nothing waits for it, nothing is forgotten.

The gateway is a process of its own, so that its memory can be looked at. `--seconds 60` keeps the
server away for a minute.
"""

from __future__ import annotations

import json
import re
import statistics
from typing import TYPE_CHECKING, Any

import trio
import trio.testing
from websockets.trio.client import connect

from support.backends import start_echo
from support.commands import Serving, start
from support.numbers import scraped, total
from support.posts import Posts
from support.projects import api, asyncapi, write
from support.schemas import validate

if TYPE_CHECKING:
    from pathlib import Path

QUEUE, BATCH = 1000, 100
MOST = 30_000_000  # octets by which the gateway may grow
TEXT = "x" * 200


class Sink:
    """The server. What it has taken is in `got`; while it is away nobody listens."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.port = 0

    async def run(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Serve until the scope that this starts with is cancelled."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
                self.port = listeners[0].socket.getsockname()[1]
                nursery.start_soon(trio.serve_listeners, self._serve, listeners)
                task_status.started(scope)

    async def _serve(self, stream: trio.SocketStream) -> None:
        posts = Posts(stream)
        while (post := await posts.next()) is not None:
            # Taken when it is answered, and not before.
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            self.got += json.loads(post[1])


def memory(serving: Serving) -> int:
    """Read how much memory the process has in use."""
    with open(f"/proc/{serving.process.pid}/status") as file:
        (found,) = re.findall(r"VmRSS:\s+(\d+) kB", file.read())
    return int(found) * 1024


async def test_a_sink_that_is_away(
    base: Path, nursery: trio.Nursery, running: list[Serving], seconds: float
) -> None:
    echo, sink = await start_echo(nursery), Sink()
    scope = await nursery.start(sink.run)
    topic = {"publish": {}, "x-auth-type": "None"}
    write(base / "apis", "one", api("One", "/one", echo.url), asyncapi({"/a": topic}))
    serving = await start(
        base, "run", TRIO_GW_METRICS_LISTEN="localhost:0", TRIO_GW_ANALYTICS_ENABLED="true",
        TRIO_GW_ANALYTICS_SINKS="http", TRIO_GW_ANALYTICS_DETAIL="frames",
        TRIO_GW_ANALYTICS_URL=f"http://127.0.0.1:{sink.port}/events",
        TRIO_GW_ANALYTICS_QUEUE=str(QUEUE), TRIO_GW_ANALYTICS_BATCH=str(BATCH),
    )  # fmt: skip
    running.append(serving)
    text = await serving.read_until("err", "listening on metrics://[")
    ports = dict(re.findall(r"listening on (http|metrics)://127\.0\.0\.1:(\d+)", text))

    async def dropped() -> int:
        body = await scraped(int(ports["metrics"]))
        return int(total(body, "trio_gw_dropped_events_total", queue="analytics-http"))

    async def talk(client: Any, until: float) -> list[float]:
        """Say something and wait for the echo, again and again; returns how long each took."""
        took = []
        while (begun := trio.current_time()) < until:
            await client.send(TEXT)
            assert await client.recv() == TEXT
            took.append(trio.current_time() - begun)
        return took

    url = f"ws://127.0.0.1:{ports['http']}/one/1.0.0/a"
    with trio.fail_after(3 * seconds + 120):
        async with connect(url, compression=None, proxy=None) as client:
            before = await talk(client, trio.current_time() + min(seconds, 20))
            used = memory(serving)
            scope.cancel()
            during = await talk(client, trio.current_time() + seconds)
            grown = memory(serving) - used
            lost = await dropped()
            await nursery.start(sink.run)
        made = 2 * (len(before) + len(during)) + 2  # with the handshake and the end
        while len(sink.got) + await dropped() < made:
            await trio.testing.wait_all_tasks_blocked(0.05)
        final = await dropped()
        async with connect(url, compression=None, proxy=None) as client:
            await client.send(TEXT)
            assert await client.recv() == TEXT
        while len(sink.got) + final < made + 4:
            await trio.testing.wait_all_tasks_blocked(0.05)
    print(
        f"{seconds:g} s away: {made} events, {made - final} delivered, {final} dropped;"
        f" memory {grown / 1e6:+.1f} MB; latency {statistics.median(before) * 1e3:.2f} ms before,"
        f" {statistics.median(during) * 1e3:.2f} ms meanwhile"
        f" (of 100 the 99th {statistics.quantiles(before, n=100)[-1] * 1e3:.2f} and"
        f" {statistics.quantiles(during, n=100)[-1] * 1e3:.2f} ms)"
    )
    assert len(sink.got) + await dropped() == made + 4
    assert await dropped() == final
    assert lost >= 2 * len(during) - QUEUE - 2 * BATCH, "no more than the queue was kept"
    for event in sink.got[:: max(1, len(sink.got) // 100)]:
        validate(event)
    assert sink.got[-1]["apiMethod"] == "CLOSE"
    assert grown < MOST
    assert statistics.median(during) < 3 * statistics.median(before) + 0.005
