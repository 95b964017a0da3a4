"""What `/metrics` says of real traffic: exactly what both peers counted."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from support.adminapi import BASIC, AdminClient
from support.backends import read_head, start_echo, start_raw
from support.conversation import close, frame, split_frames
from support.gateway import start_gateway
from support.numbers import by, samples, total
from support.projects import api, asyncapi, write
from trio_gw.telemetry.metrics import CONTENT_TYPE
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import RunningGateway

OPEN = {"publish": {}, "x-auth-type": "None"}
SECONDS = 8.0
MASK = b"\x12\x34\x56\x78"


class Count:
    """What one side has sent."""

    def __init__(self) -> None:
        self.frames = self.messages = self.octets = self.payload = 0

    def message(self, rng: random.Random, key: bytes | None) -> bytes:
        """Make a message in some frames, with a ping between them now and then."""
        parts = rng.choice((1, 1, 1, 2, 5))
        made = bytearray()
        for part in range(parts):
            size = rng.choice((0, 1, rng.randrange(126), rng.randrange(126, 3000), 66_000))
            opcode = 0 if part else rng.choice((1, 2))
            made += frame(opcode, b"x" * size, key=key, fin=part == parts - 1)
            if rng.random() < 0.2:
                made += frame(9, b"p" * rng.randrange(126), key=key)
            self.payload += size
        self.frames += parts
        self.messages += 1
        self.octets += len(made)
        return bytes(made)

    def close(self, key: bytes | None) -> bytes:
        made = close(1000, b"done", key=key)
        self.octets += len(made)
        return made


async def left(gateway: RunningGateway) -> None:
    """Wait until the gateway has no connections."""
    with trio.fail_after(10):
        while len(gateway.running.sessions):
            await trio.testing.wait_all_tasks_blocked(0.01)


async def scrape(gateway: RunningGateway) -> bytes:
    assert gateway.running.metrics is not None
    return gateway.running.metrics.exposition()


async def test_counters_equal_what_the_peers_counted(base: Path, nursery: trio.Nursery) -> None:
    rng = random.Random(7)
    sent, answered = Count(), Count()
    opened: Counter[str] = Counter()

    async def until_close(stream: trio.abc.Stream, wanted: int, rest: bytes = b"") -> int:
        """Read until a Close or `wanted` messages; returns how many messages came."""
        messages = 0
        while True:
            seen, rest = split_frames(rest)
            for one in seen:
                if one.first & 0xF == 8:
                    return -1
                messages += one.first & 0xF < 8 and bool(one.first & 0x80)
            if messages >= wanted:
                assert not rest
                return messages
            data = await stream.receive_some()
            assert data
            rest += data

    async def backend(stream: trio.SocketStream) -> None:
        head = await read_head(stream)
        key = next(
            line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: " + accept_key(key.partition(b": ")[2]) + b"\r\n\r\n"
        )
        while await until_close(stream, 1) > 0:
            await stream.send_all(answered.message(rng, None))
        await stream.send_all(answered.close(None))

    async def client(topic: str) -> None:
        while trio.current_time() < deadline:
            opened[topic] += 1
            stream = await gateway.upgrade(f"/one/1.0.0/{topic}")
            async with stream:
                for _ in range(rng.randrange(12)):
                    await stream.send_all(sent.message(rng, MASK))
                    assert await until_close(stream, 1) == 1
                await stream.send_all(sent.close(MASK))
                assert await until_close(stream, 1) == -1
                while await stream.receive_some():
                    pass

    other = await start_raw(nursery, backend)
    write(base / "apis", "one", api("One", "/one", f"ws://127.0.0.1:{other.port}"),
          asyncapi({"/a": OPEN, "/b": OPEN}))  # fmt: skip
    gateway = await start_gateway(nursery, base)
    deadline = trio.current_time() + SECONDS
    with trio.fail_after(60):
        async with trio.open_nursery() as clients:
            for topic in "abab":
                clients.start_soon(client, topic)
    await left(gateway)
    text = await scrape(gateway)
    for side, direction in ((sent, "in"), (answered, "out")):
        for name in ("frames", "messages"):
            assert total(text, f"trio_gw_{name}_total", direction=direction) == getattr(side, name)
        assert total(text, "trio_gw_wire_bytes_total", direction=direction) == side.octets
        assert total(text, "trio_gw_payload_bytes_total", direction=direction) == side.payload
    assert sent.messages > 100
    assert by(text, "trio_gw_connections_opened_total", "topic") == {
        f"/{topic}": count for topic, count in opened.items()
    }
    assert total(text, "trio_gw_connections_closed_total", code="1000", by="client") == (
        opened.total()
    )
    assert total(text, "trio_gw_handshakes_total", api="One", status="101") == opened.total()
    assert total(text, "trio_gw_connections_open") == 0
    assert total(text, "trio_gw_connection_duration_seconds_count") == opened.total()
    assert total(text, "trio_gw_handshake_phase_seconds_count", phase="dial") == opened.total()


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
