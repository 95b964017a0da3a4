"""Messages and frames through a running gateway: nothing lost, reordered or changed."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed

from support.backends import read_head, start_backend, start_echo, start_raw
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.trio.server import ServerConnection

pytestmark = pytest.mark.both_forms

PATH = "/frames/1.0.0/t"


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def before(nursery: trio.Nursery, base: Path, url: str, **settings: Any) -> RunningGateway:
    """Start a gateway with one open topic before this backend."""
    channels = {"/t": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "frames", api("Frames", "/frames", url), asyncapi(channels))
    return await start_gateway(nursery, base, **settings)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    backend = await start_echo(nursery)
    return await before(nursery, base, backend.url)


@pytest.mark.parametrize(
    "message",
    [
        *("", b"", "text", "\u00fcn\u00efcode \U0001f600", b"\x00\xff" * 50, "x" * 125, "x" * 126),
        *(b"y" * 65535, b"y" * 65536, b"z" * (1 << 20)),
    ],
    ids=lambda message: f"{type(message).__name__}-{len(message)}",
)
async def test_one_message(gateway: RunningGateway, tls: bool, message: str | bytes) -> None:
    async with gateway.connect(PATH, tls=tls) as client:
        await client.send(message)
        assert await client.recv() == message


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_16_mib_message(gateway: RunningGateway, tls: bool, compression: str | None) -> None:
    message = random.Random(1).randbytes(16 << 20)
    async with gateway.connect(PATH, tls=tls, compression=compression) as client:
        with trio.fail_after(60):
            await client.send(message)
            assert await client.recv() == message


async def test_fragmented_message_with_pings_between(gateway: RunningGateway, tls: bool) -> None:
    async with gateway.connect(PATH, tls=tls) as client, trio.open_nursery() as nursery:
        pongs = 0

        async def ping() -> None:
            nonlocal pongs
            await (await client.ping()).wait()
            pongs += 1

        async def fragments() -> Any:
            for fragment in ("one ", "", "two ", "three"):
                yield fragment
                # A control frame may stand between the fragments of a message.
                nursery.start_soon(ping)
                await trio.lowlevel.checkpoint()

        await client.send(fragments())
        assert await client.recv() == "one two three"
    assert pongs == 4


async def test_permessage_deflate_end_to_end(gateway: RunningGateway, tls: bool) -> None:
    async with gateway.connect(PATH, tls=tls, compression="deflate") as client:
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        # The shared context makes later messages depend on every byte of earlier ones.
        for number in range(50):
            message = f"the same words again and again, number {number}" * 20
            await client.send(message)
            assert await client.recv() == message


async def test_subprotocol_of_the_backend(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery, subprotocols=["chat.v2"])
    gateway = await before(nursery, base, backend.url)
    async with gateway.connect(PATH, subprotocols=["chat.v3", "chat.v2"]) as client:
        assert client.subprotocol == "chat.v2"


CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4404, 4999]


@pytest.mark.parametrize("code", CODES)
async def test_close_code_of_the_client_reaches_the_backend(
    nursery: trio.Nursery, base: Path, code: int
) -> None:
    seen: list[tuple[int | None, str | None]] = []
    done = trio.Event()

    async def handler(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        seen.append((connection.close_code, connection.close_reason))
        done.set()

    backend = await start_backend(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    async with gateway.connect(PATH) as client:
        await client.aclose(code, f"reason {code}")
    with trio.fail_after(5):
        await done.wait()
    assert seen == [(code, f"reason {code}")]
    assert client.close_code == code


@pytest.mark.parametrize("code", CODES)
async def test_close_code_of_the_backend_reaches_the_client(
    nursery: trio.Nursery, base: Path, code: int
) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.aclose(code, "r" * 123)

    backend = await start_backend(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    async with gateway.connect(PATH) as client:
        with trio.fail_after(5), pytest.raises(ConnectionClosed):
            await client.recv()
    assert (client.close_code, client.close_reason) == (code, "r" * 123)


async def test_ten_thousand_messages_each_way_at_once(nursery: trio.Nursery, base: Path) -> None:
    count = 10_000
    received: list[str | bytes] = []

    async def handler(connection: ServerConnection) -> None:
        async def push() -> None:
            for number in range(count):
                await connection.send(f"down {number} " + "d" * (number % 300))

        async with trio.open_nursery() as both:
            both.start_soon(push)
            received.extend([await connection.recv() for _ in range(count)])
        with pytest.raises(ConnectionClosed):
            await connection.recv()

    backend = await start_backend(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    async with gateway.connect(PATH, compression=None) as client:

        async def send() -> None:
            for number in range(count):
                await client.send(b"up %d " % number + b"u" * (number % 300))

        with trio.fail_after(120):
            async with trio.open_nursery() as both:
                both.start_soon(send)
                got = [await client.recv() for _ in range(count)]
    assert got == [f"down {n} " + "d" * (n % 300) for n in range(count)]
    assert received == [b"up %d " % n + b"u" * (n % 300) for n in range(count)]


def resident() -> int:
    """Return this process's resident memory in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


async def test_slow_reader_costs_no_memory_and_no_byte(base: Path) -> None:
    """500 MB pushed at a client that does not read: bounded, and complete afterwards.

    Backend and client are raw sockets in this process that hold no data, so that the process's
    memory is the gateway's.
    """
    frame = b"\x82\x7f" + (1 << 20).to_bytes(8, "big")
    block = random.Random(7).randbytes(1 << 20)
    total = 500
    sent = 0
    progress = trio.Event()

    async def push(stream: trio.SocketStream) -> None:
        nonlocal sent, progress
        head = await read_head(stream)
        key = next(
            line.split(b": ")[1]
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        await stream.send_all(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
        )
        for _ in range(total):
            await stream.send_all(frame)
            await stream.send_all(block)
            sent += 1
            progress.set()
            progress = trio.Event()
        await stream.send_all(b"\x88\x02\x03\xe8")
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        backend = await start_raw(nursery, push)
        gateway = await before(nursery, base, backend.url)
        client = await gateway.upgrade(PATH)
        before_bytes = resident()
        # Nothing reads: once nothing has moved for a while, see what is held.
        stalled = False
        with trio.fail_after(60):
            while not stalled:
                with trio.move_on_after(1) as quiet:
                    await progress.wait()
                stalled = quiet.cancelled_caught
        assert sent < total / 2
        grown = resident() - before_bytes
        assert grown < 2 << 20, f"{grown} bytes more while stalled at {sent} MiB"

        expected = hashlib.sha256()
        for _ in range(total):
            expected.update(frame)
            expected.update(block)
        expected.update(b"\x88\x02\x03\xe8")
        got, size = hashlib.sha256(), 0
        wanted = total * (len(frame) + len(block)) + 4
        with trio.fail_after(120):
            while size < wanted:
                data = await client.receive_some(1 << 16)
                assert data
                size += len(data)
                got.update(data)
        assert got.digest() == expected.digest()
        await client.aclose()
        nursery.cancel_scope.cancel()
