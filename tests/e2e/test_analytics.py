"""Analytics of real sessions: every event as its schema has it, delivered or counted as dropped."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.backends import start_echo, start_raw
from support.gateway import start_gateway
from support.numbers import total
from support.projects import api, asyncapi, write
from support.schemas import validate
from support.secrets import wrote

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import RunningGateway

pytestmark = pytest.mark.both_forms

TOPICS = {"/a": {"publish": {}, "x-auth-type": "None"}, "/secret": {"publish": {}}}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def start(nursery: trio.Nursery, base: Path, **analytics: Any) -> RunningGateway:
    echo = await start_echo(nursery)
    write(base / "apis", "one", api("One", "/one", f"ws://127.0.0.1:{echo.port}/p?key=hidden"),
          asyncapi(TOPICS))  # fmt: skip
    write(base / "apis", "gone", api("Gone", "/gone", "ws://127.0.0.1:1"), asyncapi(TOPICS))
    return await start_gateway(nursery, base, analytics={"enabled": True, **analytics})


async def left(gateway: RunningGateway) -> None:
    with trio.fail_after(10):
        while len(gateway.running.sessions):
            await trio.testing.wait_all_tasks_blocked(0.01)


async def written(gateway: RunningGateway, name: str, count: int) -> list[Any]:
    """Wait until the file has so many events; returns them, each judged by its schema."""
    path = gateway.base / name
    with trio.fail_after(10):
        while not path.exists() or path.read_bytes().count(b"\n") < count:
            await trio.testing.wait_all_tasks_blocked(0.01)
    text = path.read_text()
    wrote(text, "analytics")
    assert "not-for-the-log" not in text
    assert "hidden" not in text
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        validate(event)
    return events


@pytest.mark.parametrize("detail", ["frames", "interval"])
async def test_a_session(detail: str, base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(nursery, base, detail=detail, file="a.jsonl", region="eu")
    async with gateway.connect(
        "/one/1.0.0/secret",
        gateway.token(),
        compression=None,
        user_agent_header=FIREFOX,
        additional_headers={"x-request-id": "id-1"},
    ) as connection:
        for text in ("not-for-the-log", "x" * 300):
            await connection.send(text)
            assert await connection.recv() == text
        await connection.send(["a", "bc"])
        assert await connection.recv() == "abc"
    assert (await gateway.ask(gateway.handshake("/one/1.0.0/secret"))).status == 401
    assert (await gateway.ask(gateway.handshake("/gone/1.0.0/a"))).status == 503
    assert (await gateway.ask(gateway.handshake("/nowhere"))).status == 404
    await left(gateway)
    frames = detail == "frames"
    events = await written(gateway, "a.jsonl", (4 + 3 if frames else 2) + 4)
    first, *traffic, last, refused, unreachable = events
    assert first["apiMethod"] == "HANDSHAKE"
    assert first["apiResourceTemplate"] == "init-request:/secret"
    assert first["targetResponseCode"] == 101
    assert (first["userAgent"], first["platform"]) == ("Firefox", "Linux")
    assert first["userName"] == "admin"
    assert first["applicationName"] == "anon:MGW"
    assert first["correlationId"] == "id-1"
    assert first["regionId"] == "eu"
    for method, counted in (("PUBLISH", 4 + frames * 0), ("SUBSCRIBE", 3)):
        mine = [one["properties"] for one in traffic if one["apiMethod"] == method]
        assert sum(one["bytes"] for one in mine) == 15 + 300 + 3
        assert sum(one["frames"] for one in mine) >= counted
        assert sum(one["messages"] for one in mine) == 3
        if frames:
            assert {one["frames"] for one in mine} == {1}
    assert last["apiMethod"] == "CLOSE"
    assert last["properties"]["closeCode"] == 1000
    assert last["properties"]["endedBy"] == "client"
    assert last["properties"]["bytesIn"] == last["properties"]["bytesOut"] == 318
    assert refused["errorType"] == "AUTH"
    assert refused["errorMessage"] == "AUTHENTICATION_FAILURE"
    assert (refused["proxyResponseCode"], refused["applicationId"]) == (401, "UNKNOWN")
    assert unreachable["errorType"] == "TARGET_CONNECTIVITY"
    assert unreachable["errorCode"] == 101500


async def test_totals_come_every_interval(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(nursery, base, interval=0.05, file="a.jsonl")
    async with gateway.connect("/one/1.0.0/a", compression=None) as connection:
        for number in range(1, 4):
            await connection.send("four")
            assert await connection.recv() == "four"
            events = await written(gateway, "a.jsonl", 1 + 2 * number)
    assert sum(one["properties"].get("bytes", 0) for one in events) == 24
    assert events[1]["applicationId"] == "anonymous"
    assert events[1]["userName"] == "anonymous"


async def test_totals_of_many_connections_do_not_fill_the_queue(
    base: Path, nursery: trio.Nursery
) -> None:
    # All at once they would not fit. Over half of the interval, the writer has a second to spare.
    gateway = await start(nursery, base, interval=3.0, queue=250, file="a.jsonl")
    path = base / "a.jsonl"

    def told() -> int:
        return path.read_bytes().count(b'"frames":1,') if path.exists() else 0

    async with contextlib.AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(gateway.connect("/one/1.0.0/a", compression=None))
            for _ in range(160)
        ]
        for client in clients:
            await client.send("x")
            assert await client.recv() == "x"
        with trio.fail_after(20):
            while told() < 320:
                await trio.testing.wait_all_tasks_blocked(0.01)
    assert gateway.running.metrics is not None
    text = gateway.running.metrics.exposition()
    assert total(text, "trio_gw_dropped_events_total", queue="analytics-file") == 0


async def test_the_backends_own_refusal(base: Path, nursery: trio.Nursery) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 418 No\r\ncontent-length: 0\r\n\r\n")

    gateway = await start(nursery, base, file="a.jsonl", format="json")
    backend = await start_raw(nursery, refuse)
    write(base / "apis", "two", api("Two", "/two", f"ws://127.0.0.1:{backend.port}"),
          asyncapi(TOPICS))  # fmt: skip
    with trio.fail_after(10):
        while (await gateway.ask(gateway.handshake("/two/1.0.0/a"))).status != 418:
            await gateway.running.live.wait_changed()
    (event,) = await written(gateway, "a.jsonl", 1)
    assert (event["apiMethod"], event["targetResponseCode"]) == ("GET", 418)


async def test_a_stop_flushes_in_the_format_of_the_reference(
    base: Path, nursery: trio.Nursery
) -> None:
    gateway = await start(nursery, base, file="logs/a.log", format="elk")
    async with gateway.connect("/one/1.0.0/a") as connection:
        await connection.send("hello")
        gateway.stop.set()
        with trio.fail_after(20):
            while (
                not (path := base / "logs" / "a.log").exists() or b"CLOSE" not in path.read_bytes()
            ):
                await trio.testing.wait_all_tasks_blocked(0.01)
    lines = path.read_text().splitlines()
    begin = "apimMetrics: apim:response, properties :"
    for line in lines:
        assert line.startswith(begin)
        validate(json.loads(line.removeprefix(begin)))
    assert '"closeCode":1012' in lines[-1]


async def test_a_sink_that_is_down_and_back(base: Path, nursery: trio.Nursery) -> None:
    """Traffic goes on, and each event is delivered or counted as dropped."""
    down, tried = True, 0
    got: list[Any] = []

    async def server(stream: trio.SocketStream) -> None:
        nonlocal tried
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"authorization: Bearer sink-token-0123456789" in head.replace(b"Auth", b"auth")
        (size,) = [int(line[15:]) for line in head.split(b"\r\n")
                   if line.lower().startswith(b"content-length:")]  # fmt: skip
        while len(body) < size:
            body += await stream.receive_some()
        tried += 1
        if not down:
            got.extend(json.loads(body))
        status = b"503 No" if down else b"200 OK"
        await stream.send_all(
            b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )

    sink = await start_raw(nursery, server)
    gateway = await start(
        nursery, base, detail="frames", sinks=["http"], queue=40, batch=10,
        url=f"http://127.0.0.1:{sink.port}/events", token="sink-token-0123456789",
    )  # fmt: skip
    async with gateway.connect("/one/1.0.0/a", compression=None) as connection:
        for number in range(100):
            await connection.send(str(number))
            assert await connection.recv() == str(number)
        with trio.fail_after(10):
            while tried < 2:
                await trio.testing.wait_all_tasks_blocked(0.01)
        down = False
        metrics = gateway.running.metrics
        assert metrics is not None
        # Of the batch that was tried first something may have been taken alone.
        dropped = total(
            metrics.exposition(), "trio_gw_dropped_events_total", queue="analytics-http"
        )
        assert 201 - 40 - 10 <= dropped <= 201 - 40
        with trio.fail_after(30):
            while len(got) + dropped < 201:
                await trio.testing.wait_all_tasks_blocked(0.01)
    for event in got:
        validate(event)
    wrote(json.dumps(got), "analytics")
