"""What a backend chooses among the subprotocols, where the gateway need not judge it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.backends import read_head, start_raw
from support.gateway import KEY, RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

    import trio


async def serve(
    nursery: trio.Nursery, base: Path, choice: bytes, *, strict: bool = False
) -> RunningGateway:
    """Serve an open topic whose backend answers with this Sec-WebSocket-Protocol."""

    async def handler(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol:%s\r\n\r\n"
            % (accept_key(KEY), choice)
        )
        await stream.receive_some()

    backend = await start_raw(nursery, handler)
    channels = {"/open": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "b", api("B", "/b", backend.url), asyncapi(channels))
    return await start_gateway(nursery, base, strict_subprotocols=strict)


async def answer(gateway: RunningGateway, offer: str) -> bytes:
    """Return the head of the answer to a handshake that offers these."""
    lines = f"Sec-WebSocket-Protocol: {offer}\r\n" if offer else ""
    stream = await gateway.open()
    async with stream:
        await stream.send_all(gateway.handshake("/b/1.0.0/open", extra=lines.encode()))
        return bytes(await stream.receive_some())


@pytest.mark.parametrize("offer", ["", "chat"])
@pytest.mark.parametrize("choice", [b"", b" ", b"\t"])
async def test_an_empty_choice_is_none(
    nursery: trio.Nursery, base: Path, offer: str, choice: bytes
) -> None:
    said = await answer(await serve(nursery, base, choice), offer)
    assert said.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-protocol" not in said.lower()


async def test_other_letters_are_passed_on_with_one_warning(
    nursery: trio.Nursery, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await serve(nursery, base, b" ocpp1.6")
    for _ in range(3):
        said = await answer(gateway, "OCPP1.6, OCPP2.0")
        assert said.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nsec-websocket-protocol: ocpp1.6\r\n" in said
    warnings = [line for line in caplog.messages if "in another case" in line]
    assert len(warnings) == 1
    assert "B:1.0.0" in warnings[0]
    assert (await answer(gateway, "ocpp2.0")).startswith(b"HTTP/1.1 502 ")


async def test_other_letters_are_refused_where_that_is_asked_for(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway = await serve(nursery, base, b" ocpp1.6", strict=True)
    assert (await answer(gateway, "OCPP1.6")).startswith(b"HTTP/1.1 502 ")
    assert (await answer(gateway, "ocpp1.6")).startswith(b"HTTP/1.1 101 ")
