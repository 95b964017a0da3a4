"""APIs whose messages are looked at, through a running gateway and third-party peers."""

from __future__ import annotations

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

PATH = "/looked/1.0.0/t"


async def before(nursery: trio.Nursery, base: Path, url: str, **more: Any) -> RunningGateway:
    """Start a gateway that looks at the messages of its one topic."""
    topic = {"publish": {}, "x-auth-type": "None", "x-trio-gw-inspect": True, **more}
    write(base / "apis", "looked", api("Looked", "/looked", url), asyncapi({"/t": topic}))
    return await start_gateway(nursery, base)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_messages_come_back(nursery: trio.Nursery, base: Path, tls: bool) -> None:
    backend = await start_echo(nursery)
    gateway = await before(nursery, base, backend.url)
    async with gateway.connect(PATH, tls=tls) as client:
        for message in ("", b"", "gr\u00fc\u00df dich", b"\xff" * 70_000, "x" * (1 << 20)):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["in ", "", "parts"])
        assert await client.recv() == "in parts"
        with trio.fail_after(5):
            await (await client.ping()).wait()  # answered by the backend
    assert client.close_code == 1000


async def test_extensions_are_not_offered(nursery: trio.Nursery, base: Path) -> None:
    """A compressed message could not be looked at; subprotocols pass."""
    backend = await start_echo(nursery, subprotocols=["chat.v2"])
    gateway = await before(nursery, base, backend.url)
    offered = ["chat.v3", "chat.v2"]
    async with gateway.connect(PATH, compression="deflate", subprotocols=offered) as client:
        assert client.subprotocol == "chat.v2"
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        await client.send("one")
        assert await client.recv() == "one"
    assert "Sec-WebSocket-Extensions" not in backend.requests[0].headers


async def test_a_backend_that_takes_an_extension_anyway(nursery: trio.Nursery, base: Path) -> None:
    async def compress(stream: trio.SocketStream) -> None:
        head = await read_head(stream)
        lines = (line.partition(b": ") for line in head.split(b"\r\n"))
        key = next(value for name, _, value in lines if name.lower() == b"sec-websocket-key")
        await stream.send_all(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
        )
        await stream.receive_some()

    backend = await start_raw(nursery, compress)
    gateway = await before(nursery, base, backend.url)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    answer = await gateway.ask(gateway.handshake(PATH, extra=offer))
    assert answer.status == 502


async def test_one_byte_too_many(nursery: trio.Nursery, base: Path) -> None:
    heard: list[object] = []
    over = trio.Event()

    async def handler(connection: ServerConnection) -> None:
        heard.append(await connection.recv())
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        heard.append((connection.close_code, connection.close_reason))
        over.set()

    backend = await start_backend(nursery, handler)
    gateway = await before(nursery, base, backend.url, **{"x-trio-gw-max-message": 10})
    async with gateway.connect(PATH) as client:
        await client.send(b"0123456789")
        await client.send(b"01234567890")
        with trio.fail_after(5):
            await client.wait_closed()
            await over.wait()
    why = "client: message of more than 10 bytes"
    assert (client.close_code, client.close_reason) == (1009, why)
    assert heard == [b"0123456789", (1009, "message of more than 10 bytes")]


async def test_shutdown_is_said(base: Path) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        gateway = await before(nursery, base, backend.url)
        async with gateway.connect(PATH) as client:
            await client.send("one")
            assert await client.recv() == "one"
            gateway.stop.set()
            with trio.fail_after(5):
                await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1012, "gateway is shutting down")
        nursery.cancel_scope.cancel()
