"""What `/metrics` says of real traffic: exactly what both peers counted."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import resource
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from support.adminapi import BASIC, AdminClient
from support.backends import read_head, start_echo
from support.commands import start
from support.gateway import KEY, start_gateway
from support.numbers import by, samples, scraped, total
from support.peers import Peers
from support.projects import api, asyncapi, write
from trio_gw.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from pathlib import Path

    from support.commands import Serving
    from support.gateway import RunningGateway

pytestmark = pytest.mark.both_forms

OPEN = {"publish": {}, "x-auth-type": "None"}
REQUEST = (
    b"GET /one/1.0.0/%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


async def left(gateway: RunningGateway) -> None:
    """Wait until the gateway has no connections."""
    with trio.fail_after(10):
        while len(gateway.running.sessions):
            await trio.testing.wait_all_tasks_blocked(0.01)


def found(text: bytes) -> dict[str, tuple[int, int, int, int]]:
    """Give what metrics say of messages, frames, payload and octets in each direction."""
    return {
        way: (
            int(total(text, "trio_gw_messages_total", direction=way)),
            int(total(text, "trio_gw_frames_total", direction=way)),
            int(total(text, "trio_gw_payload_bytes_total", direction=way)),
            int(total(text, "trio_gw_wire_bytes_total", direction=way)),
        )
        for way in ("in", "out")
    }


async def scrape(gateway: RunningGateway) -> bytes:
    assert gateway.running.metrics is not None
    return gateway.running.metrics.exposition()


async def test_counters_equal_what_the_peers_counted(
    base: Path, nursery: trio.Nursery, seconds: float
) -> None:
    peers = Peers()
    other = await peers.start_backend(nursery)
    write(base / "apis", "one", api("One", "/one", other.url), asyncapi({"/a": OPEN, "/b": OPEN}))
    gateway = await start_gateway(nursery, base)
    deadline = trio.current_time() + seconds

    async def client(topic: str) -> None:
        while trio.current_time() < deadline:
            await peers.visit(topic, lambda name: gateway.upgrade(f"/one/1.0.0/{name}"))

    with trio.fail_after(seconds + 60):
        async with trio.open_nursery() as clients:
            for topic in "abab":
                clients.start_soon(client, topic)
    await left(gateway)
    text = await scrape(gateway)
    peers.check()
    assert found(text) == peers.said
    opened = peers.opened
    print(f"{seconds:g} s: {opened.total()} connections, {peers.said}")
    assert peers.sent.messages > 10
    assert by(text, "trio_gw_connections_opened_total", "topic") == {
        f"/{topic}": count for topic, count in opened.items()
    }
    closed = "trio_gw_connections_closed_total"
    assert total(text, closed, code="1000", by="client") == opened.total() - peers.hung_up
    assert total(text, closed, code="1006", by="client") == peers.hung_up
    assert total(text, "trio_gw_handshakes_total", api="One", status="101") == opened.total()
    assert total(text, "trio_gw_connections_open") == 0
    assert total(text, "trio_gw_connection_duration_seconds_count") == opened.total()
    assert total(text, "trio_gw_handshake_phase_seconds_count", phase="dial") == opened.total()


async def test_workers_add_up_to_what_the_peers_counted(
    base: Path, nursery: trio.Nursery, running: list[Serving], seconds: float
) -> None:
    """Also each worker's own lines about its connections add up to the same."""
    peers = Peers()
    other = await peers.start_backend(nursery)
    write(base / "apis", "one", api("One", "/one", other.url), asyncapi({"/a": OPEN, "/b": OPEN}))
    serving = await start(
        base, "run", TRIO_GW_WORKERS="2", TRIO_GW_METRICS_LISTEN="localhost:0",
        TRIO_GW_LOG_FORMAT="json",
    )  # fmt: skip
    running.append(serving)
    while serving.err.count('"message":"ready"') < 2:
        await more(serving)
    ports = dict(re.findall(r"listening on (http|metrics)://127\.0\.0\.1:(\d+)", serving.err))

    async def connect(topic: str) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream("127.0.0.1", int(ports["http"]))
        await stream.send_all(REQUEST % topic.encode())
        assert (await read_head(stream)).startswith(b"HTTP/1.1 101 ")
        return stream

    async def client(topic: str) -> None:
        while trio.current_time() < deadline:
            await peers.visit(topic, connect)

    async def read_log() -> None:
        while serving.process.poll() is None:
            await more(serving)

    nursery.start_soon(read_log)
    deadline = trio.current_time() + seconds
    with trio.fail_after(seconds + 60):
        async with trio.open_nursery() as clients:
            for topic in "ababab":
                clients.start_soon(client, topic)
        peers.check()
        opened, closed = peers.opened.total(), "trio_gw_connections_closed_total"
        # What another worker counted may be a second old.
        port = int(ports["metrics"])
        while total(text := await scraped(port), closed) < opened or found(text) != peers.said:
            await trio.testing.wait_all_tasks_blocked(0.05)
        while serving.err.count(" ended by ") < opened:
            await trio.testing.wait_all_tasks_blocked(0.05)
    print(f"{seconds:g} s, 2 workers: {opened} connections, {peers.said}")
    assert total(text, closed) == total(text, "trio_gw_connections_opened_total") == opened
    assert total(text, "trio_gw_connections_open") == 0
    lines = [json.loads(one) for one in serving.err.splitlines() if " ended by " in one]
    assert {one["process"] for one in lines} == {"worker 1", "worker 2"}
    for place, key in ((0, "messages"), (1, "frames"), (3, "octets")):
        for way in ("in", "out"):
            assert sum(one[f"{key}_{way}"] for one in lines) == peers.said[way][place]


async def more(serving: Serving) -> None:
    """Read what comes next on standard error."""
    assert serving.process.stderr is not None
    data = await serving.process.stderr.receive_some()
    serving.err += data.decode()
    assert data or serving.process.poll() is not None


async def test_an_open_connection_shows_at_once(base: Path, nursery: trio.Nursery) -> None:
    echo = await start_echo(nursery)
    write(base / "apis", "one", api("One", "/one", f"ws://127.0.0.1:{echo.port}"),
          asyncapi({"/a": OPEN, "/secret": {"publish": {}}}))  # fmt: skip
    write(base / "apis", "two", api("Two", "two", None), asyncapi({"/a": OPEN}))
    gateway = await start_gateway(nursery, base, metrics={"listen": "localhost:0"})
    async with gateway.connect("/one/1.0.0/a", compression=None) as connection:
        await connection.send("four")
        assert await connection.recv() == "four"
        text = await scrape(gateway)
        assert total(text, "trio_gw_connections_open", api="One", version="1.0.0", topic="/a") == 1
        assert total(text, "trio_gw_messages_total", direction="in") == 1
        assert total(text, "trio_gw_payload_bytes_total", direction="out") == 4
    assert (await gateway.get("/nowhere")).status == 404
    refused = await gateway.ask(gateway.handshake("/one/1.0.0/secret"))
    assert refused.status == 401
    await left(gateway)
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.metrics_port)
    answer = await gateway.ask(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n", stream=stream)
    assert answer.headers["content-type"] == CONTENT_TYPE
    found = samples(answer.body)
    assert total(answer.body, "trio_gw_handshakes_total", status="404", error="404") == 1
    assert (
        total(answer.body, "trio_gw_handshakes_total", status="401", error=refused.json()["code"])
        == 1
    )
    assert total(answer.body, "trio_gw_apis") == 1
    assert total(answer.body, "trio_gw_problems", severity="error") >= 1
    assert total(answer.body, "trio_gw_table_changes_total") == 1
    assert found["trio_gw_process_resident_memory_bytes"][0][1] > 1_000_000
    assert total(answer.body, "trio_gw_process_cpu_seconds_total") > 0
    assert total(answer.body, "trio_gw_process_open_fds") > 3


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: m\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nHost: m\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\nHost: m\n\n", 400),
        (b"HEAD /metrics HTTP/1.1\r\nHost: m\r\n\r\n", 200),
    ],
)
async def test_the_listener_answers_nothing_else(
    request_: bytes, status: int, base: Path, nursery: trio.Nursery
) -> None:
    gateway = await start_gateway(nursery, base, metrics={"listen": "localhost:0"})
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.metrics_port)
    answer = await gateway.ask(request_, stream=stream)
    assert answer.status == status
    assert b"trio_gw" not in answer.body


async def test_who_asks_for_nothing_keeps_nobody_from_asking(
    base: Path, nursery: trio.Nursery
) -> None:
    gateway = await start_gateway(nursery, base, metrics={"listen": "localhost:0"})
    async with contextlib.AsyncExitStack() as silent:
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", gateway.metrics_port)
            await silent.enter_async_context(stream)
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", gateway.metrics_port)
            request = b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n"
            assert (await gateway.ask(request, stream=stream)).status == 200


async def test_clients_that_take_every_descriptor_do_not_end_the_counting(
    base: Path, nursery: trio.Nursery
) -> None:
    gateway = await start_gateway(nursery, base)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # it must not close what earlier tests left while descriptors are counted
    most = max(map(int, os.listdir("/proc/self/fd"))) + 1  # no descriptor in use is above
    with contextlib.ExitStack() as taken:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with contextlib.suppress(OSError):
            while True:
                taken.callback(os.close, os.dup(0))
        text = await scrape(gateway)
    assert total(text, "trio_gw_process_open_fds") == most
    assert total(text, "trio_gw_process_cpu_seconds_total") > 0


async def test_close_codes_that_are_made_up_leave_room_for_others(
    base: Path, nursery: trio.Nursery
) -> None:
    echo = await start_echo(nursery)
    write(base / "apis", "one", api("One", "/one", echo.url), asyncapi({"/a": OPEN, "/b": OPEN}))
    gateway = await start_gateway(nursery, base, metrics={"series": 40})
    for code in range(3000, 3050):
        async with gateway.connect("/one/1.0.0/a") as client:
            await client.aclose(code)
        await left(gateway)
    async with gateway.connect("/one/1.0.0/b") as client:
        await client.aclose(4000)
    await left(gateway)
    found = by(await scrape(gateway), "trio_gw_connections_closed_total", "code")
    first = {str(code): 1 for code in range(3000, 3020)}
    assert found == first | {"4000": 1, "other": 30}


async def test_a_backend_that_is_down_shows(base: Path, nursery: trio.Nursery) -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        url = f"ws://127.0.0.1:{port}/p?key=do-not-tell"
        write(base / "apis", "one", api("One", "/one", url), asyncapi({"/a": OPEN}))
        gateway = await start_gateway(nursery, base)
        for _ in range(2):
            assert (await gateway.ask(gateway.handshake("/one/1.0.0/a"))).status == 503
        await left(gateway)
    text = await scrape(gateway)
    assert samples(text)["trio_gw_backend_up"] == [
        ({"backend": f"ws://127.0.0.1:{port}", "worker": "1"}, 0.0)
    ]
    assert total(text, "trio_gw_handshakes_total", api="One", status="503", error="102503") == 2


async def test_without_metrics_nothing_is_counted(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start_gateway(nursery, base, metrics={"enabled": False})
    assert (await gateway.get("/nowhere")).status == 404
    assert gateway.running.metrics is None


async def test_the_admin_listener_shows_them_to_who_may_see(
    base: Path, nursery: trio.Nursery
) -> None:
    listen = {"http": "localhost:0", "https": "localhost:0", "admin": "localhost:0"}
    gateway = await start_gateway(nursery, base, listen=listen)
    client = AdminClient(gateway)
    assert (await client.ask("GET", "/metrics")).status == 401
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
    answer = await client.ask("GET", "/metrics", {"Authorization": BASIC, "Accept": accept})
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert total(answer.body, "trio_gw_apis", worker="1") == 0
