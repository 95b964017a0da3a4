"""Clients that take all there is: descriptors, and places before a request."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from support.backends import start_echo
from support.commands import Serving, environment, port_of
from support.conversation import split_frames
from support.gateway import KEY, start_gateway
from support.numbers import by, scraped, total
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import RunningGateway

FLOOD, GOOD, OTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
FEW = 256  # descriptors
OPEN = {"publish": {}, "x-auth-type": "None"}


def handshake(path: str) -> bytes:
    return (
        b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % (path.encode(), KEY)
    )


async def connect(port: int, address: str) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port, local_address=address)


async def ask(port: int, address: str, request: bytes) -> tuple[trio.SocketStream, bytes]:
    """Ask from an address, and read the head of the answer; nothing if there is none."""
    stream = await connect(port, address)
    answer = b""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(request)
        while b"\r\n\r\n" not in answer and (data := await stream.receive_some()):
            answer += data
    return stream, answer


async def ended(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def start(folder: Path, settings: str, limit: str = f"ulimit -n {FEW}") -> Serving:
    """Start a gateway that may have only so many descriptors."""
    (folder / "gateway.toml").write_text(settings)
    command = [sys.executable, "-m", "trio_gw", "run"]
    process = await trio.lowlevel.open_process(
        ["sh", "-c", f'{limit}; exec "$0" "$@"', *command],
        cwd=folder,
        env=environment(TRIO_GW_METRICS_LISTEN="localhost:0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return Serving(process)


UNBOUNDED = """
[limits]
pending = 0
pending_per_address = 0
[timeouts]
head = 600
"""


@pytest.fixture
async def project(base: Path, nursery: trio.Nursery) -> Path:
    echo = await start_echo(nursery)
    write(base / "apis", "open", api("Open", "/open", echo.url), asyncapi({"/*": OPEN}))
    return base


async def ports(serving: Serving) -> tuple[int, int]:
    """Wait until it serves; tell the ports of clients and of metrics."""
    await serving.read_until("err", "listening on metrics://127")
    await serving.read_until("err", "Open:1.0.0")
    return port_of(serving.err), port_of(serving.err, "metrics")


async def test_silent_clients_that_want_every_descriptor_change_nothing_for_others(
    project: Path, running: list[Serving]
) -> None:
    serving = await start(project, UNBOUNDED)
    running.append(serving)
    port, metrics = await ports(serving)
    async with contextlib.AsyncExitStack() as stack:
        good, answer = await ask(port, GOOD, handshake("/open/1.0.0/x"))
        await stack.enter_async_context(good)
        assert b" 101 " in answer
        flood = []
        for _ in range(FEW + 50):
            flood.append(await connect(port, FLOOD))
            await stack.enter_async_context(flood[-1])
        with trio.fail_after(30):
            await ended(flood[0])  # the oldest
            # Others still get in, and what the operator wants still happens.
            stream, answer = await ask(port, OTHER, handshake("/open/1.0.0/x"))
            await stack.enter_async_context(stream)
            assert b" 101 " in answer
            (project / "certs" / "denied.txt").write_text(f"address={GOOD}\n")
            said = b""
            while data := await good.receive_some():
                said += data
            (close,), _ = split_frames(said)
            assert close.payload == b"\x03\xf0address is blocked"
            stream, answer = await ask(port, GOOD, handshake("/open/1.0.0/x"))
            await stream.aclose()
            assert b" 403 " in answer
            numbers = await scraped(metrics)
    assert by(numbers, "trio_gw_evicted_connections_total", "reason")["descriptors"] > 50
    assert total(numbers, "trio_gw_pending_connections") > FEW // 2
    assert total(numbers, "trio_gw_process_open_fds") < total(numbers, "trio_gw_process_max_fds")
    await serving.read_until("err", "connections without a request to make room")


async def test_websockets_that_take_every_descriptor_can_still_be_denied(
    project: Path, running: list[Serving]
) -> None:
    serving = await start(project, UNBOUNDED)
    running.append(serving)
    port, metrics = await ports(serving)
    async with contextlib.AsyncExitStack() as stack:
        opened: list[trio.SocketStream] = []
        with trio.fail_after(60):
            while True:
                stream, answer = await ask(port, FLOOD, handshake("/open/1.0.0/x"))
                await stack.enter_async_context(stream)
                if b" 101 " not in answer:
                    break
                opened.append(stream)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in answer
            await stream.aclose()
            numbers = await scraped(metrics)
            while not by(numbers, "trio_gw_refused_connections_total", "level")["descriptors"]:
                numbers = await scraped(metrics)
            # A backend that was not asked is not a backend that is down.
            assert total(numbers, "trio_gw_backend_up") == 1
            stream, answer = await ask(port, OTHER, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            await stack.enter_async_context(stream)
            assert b" 200 " in answer
            (project / "certs" / "denied.txt").write_text(f"address={FLOOD}\n")
            for stream in opened:
                await ended(stream)
            stream, answer = await ask(port, OTHER, handshake("/open/1.0.0/x"))
            await stack.enter_async_context(stream)
            assert b" 101 " in answer


async def test_the_limit_of_descriptors_is_raised(project: Path, running: list[Serving]) -> None:
    serving = await start(project, "", f"ulimit -Sn {FEW}; ulimit -Hn {10 * FEW}")
    running.append(serving)
    _, metrics = await ports(serving)
    assert f"raised the limit of open files from {FEW} to {10 * FEW}" in serving.err
    assert total(await scraped(metrics), "trio_gw_process_max_fds") == 10 * FEW


async def silent(gateway: RunningGateway, address: str, count: int) -> list[trio.SocketStream]:
    """Connect so often from an address, and say nothing."""
    made = [await connect(gateway.port, address) for _ in range(count)]
    gateway.opened += made
    return made


@pytest.mark.parametrize("limits", [{"pending_per_address": 5}, {"pending": 6}])
async def test_a_flood_displaces_itself(
    limits: dict[str, int], project: Path, nursery: trio.Nursery
) -> None:
    gateway = await start_gateway(nursery, project, limits=limits)
    with trio.fail_after(20):
        (patient,) = await silent(gateway, GOOD, 1)
        flood = await silent(gateway, FLOOD, 20)
        # Also with TLS, where the handshake is what is missing.
        flood += [await trio.open_tcp_stream("127.0.0.1", gateway.tls_port) for _ in range(5)]
        gateway.opened += flood
        for stream in flood[:20]:
            await ended(stream)
        await patient.send_all(handshake("/open/1.0.0/x"))
        assert (await patient.receive_some()).startswith(b"HTTP/1.1 101 ")
        # Whoever sends a request is served, even from the same address.
        answer = await gateway.get("/health")
        assert answer.status == 200
        stream, head = await ask(gateway.port, FLOOD, handshake("/open/1.0.0/x"))
        gateway.opened.append(stream)
        assert b" 101 " in head


async def test_clients_that_do_not_hang_up_after_their_answer_make_room(
    project: Path, nursery: trio.Nursery
) -> None:
    gateway = await start_gateway(nursery, project, limits={"pending_per_address": 3})
    with trio.fail_after(20):
        streams = []
        for _ in range(4):
            stream, head = await ask(gateway.port, FLOOD, b"GET /no HTTP/1.1\r\nHost: h\r\n\r\n")
            gateway.opened.append(stream)
            assert b" 404 " in head
            streams.append(stream)
        await ended(streams[0])
    assert gateway.running.sessions is not None


async def test_a_trusted_proxy_is_not_one_host(project: Path, nursery: trio.Nursery) -> None:
    gateway = await start_gateway(
        nursery, project, limits={"pending_per_address": 2}, trusted_proxies=[GOOD]
    )
    with trio.fail_after(20):
        streams = await silent(gateway, GOOD, 10)
        flood = await silent(gateway, FLOOD, 3)
        await ended(flood[0])
        for stream in streams:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
