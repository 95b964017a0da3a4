"""The admin listener and peers that are slow, hold connections, or send nonsense."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from support.adminapi import BASE, BASIC, AdminClient, form, logged_in, packed
from support.heads import MALFORMED
from support.nonsense import ended, faults, reset
from support.uploads import start_taking, under_way, until
from trio_gw.admin import connection_slots, http1

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.gateway import RunningGateway

PATIENCE = 0.4  # seconds, instead of 15
FORM = "multipart/form-data; boundary=b"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave few places for connections."""
    monkeypatch.setattr(connection_slots, "MAX_CONNECTIONS", 16)
    monkeypatch.setattr(connection_slots, "MAX_UNAUTHENTICATED", 12)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_taking(nursery, base)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUEST_TIMEOUT", "IDLE", "LINGER"):
        monkeypatch.setattr(http1, name, PATIENCE)


async def bare(gateway: RunningGateway) -> trio.SocketStream:
    """Open a connection, and say nothing."""
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.admin_port)
    gateway.opened.append(stream)
    return stream


def post(path: str, kind: str, *lines: str) -> bytes:
    fields = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *lines)
    return "\r\n".join((*fields, "", "")).encode("latin-1")


# -- slow peers ----------------------------------------------------------------------------------

LENGTH = "Content-Length: 100000"
TOKEN = post(f"{BASE}/oauth2/token", "application/json", LENGTH)
CHUNKED = post(f"{BASE}/oauth2/token", "application/json", "Transfer-Encoding: chunked")
GET = b"GET /swagger.json HTTP/1.1\r\nHost: localhost\r\n"
BEGINNINGS = {
    "nothing": b"",
    "a request line": b"GET /swagger.json HTTP/1.1\r\n",
    "half a field": GET + b"X: ",
    "a body for a token": TOKEN,
    "a chunked body": CHUNKED,
    "a form without credentials": post(f"{BASE}/apis", FORM, LENGTH),
    "a form with wrong ones": post(f"{BASE}/apis", FORM, LENGTH, "Authorization: Bearer x"),
    "a body for nobody": post("/nowhere", FORM, LENGTH),
    "a second request": GET + b"\r\nGET /",
}


async def test_a_client_that_sends_byte_by_byte_is_closed(
    gateway: RunningGateway, impatient: None
) -> None:
    async def dawdle(beginning: bytes) -> None:
        stream = await AdminClient(gateway).connect()
        await stream.send_all(beginning)
        octets = b"1\r\n1\r\n" if beginning == CHUNKED else b"x"
        with contextlib.suppress(trio.BrokenResourceError):
            while not await ended(stream, PATIENCE / 8):
                await stream.send_all(octets)
        ends.append(beginning)

    ends: list[bytes] = []
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for beginning in BEGINNINGS.values():
                nursery.start_soon(dawdle, beginning)
    assert [name for name, data in BEGINNINGS.items() if data not in ends] == []


async def test_an_unfinished_tls_handshake_is_closed(
    gateway: RunningGateway, impatient: None
) -> None:
    for beginning in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
        stream = await bare(gateway)
        await stream.send_all(beginning)
        assert await ended(stream), beginning


async def test_an_idle_connection_is_closed(gateway: RunningGateway, impatient: None) -> None:
    stream = await AdminClient(gateway).connect()
    await stream.send_all(GET + b"\r\n")
    assert await ended(stream)


async def test_a_client_that_does_not_read_is_closed(
    gateway: RunningGateway, impatient: None
) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    raw = trio.socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    await raw.connect(("127.0.0.1", gateway.admin_port))
    transport = trio.SocketStream(raw)
    gateway.opened.append(transport)
    stream = trio.SSLStream(transport, gateway.trust(), server_hostname="localhost")
    with trio.fail_after(20):
        with contextlib.suppress(trio.BrokenResourceError):
            while True:  # until there is neither an answer nor an end to wait for
                await stream.send_all((GET + b"\r\n") * 1000)
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.lowlevel.checkpoint()


async def test_held_connections_do_not_block_new_ones(
    narrow: None, gateway: RunningGateway
) -> None:
    held = [await bare(gateway) for _ in range(2 * connection_slots.MAX_CONNECTIONS)]
    client = await logged_in(gateway)
    assert (await client.list()).status == 200
    # The oldest had to go, the youngest is still there.
    assert await ended(held[0])
    assert not await ended(held[-1], 0.05)


async def test_an_authenticated_connection_is_not_closed_for_others(
    narrow: None, gateway: RunningGateway
) -> None:
    client = await logged_in(gateway)
    body, kind = form(packed(gateway.base / "aside" / "chat", "chat"))

    async def held() -> AsyncIterator[bytes]:
        yield body[:-1]
        await until(lambda: under_way(gateway) == 1)
        for _ in range(2 * connection_slots.MAX_CONNECTIONS):
            await bare(gateway)
        assert (await client.list()).status == 200  # so the others have been accepted
        yield body[-1:]

    headers = {"Authorization": BASIC, "Content-Type": kind}
    answer = await client.ask("POST", f"{BASE}/apis", headers, held(), len(body))
    assert answer.status == 200


async def test_an_upload_over_a_slow_line_may_take_longer(
    gateway: RunningGateway, impatient: None
) -> None:
    client = await logged_in(gateway)
    body, kind = form(packed(gateway.base / "aside" / "chat", "chat"))
    began, pieces = trio.current_time(), 20
    size = -(-len(body) // pieces)

    async def slowly() -> AsyncIterator[bytes]:
        for number in range(pieces):
            with trio.move_on_at(began + 2 * PATIENCE * (number + 1) / pieces):
                await trio.sleep_forever()
            yield body[number * size : (number + 1) * size]

    headers = {"Authorization": BASIC, "Content-Type": kind}
    answer = await client.ask("POST", f"{BASE}/apis", headers, slowly(), len(body))
    assert answer.status == 200
    assert trio.current_time() - began > PATIENCE


async def test_a_disconnected_client_takes_no_slot(gateway: RunningGateway) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(3):
        stream = await AdminClient(gateway).connect()
        await stream.send_all(GET + b"\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
        await trio.aclose_forcefully(stream)
    with trio.fail_after(http1.IDLE / 2):
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.lowlevel.checkpoint()


# -- nonsense ------------------------------------------------------------------------------------

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
ADMIN = GET.replace(b"swagger.json", b"admin/apis")
NONSENSE = {
    **{name: data for name, (data, _) in list(MALFORMED.items())[::4]},
    "1,001 frames of HTTP/2": HTTP2 + b"\x00\x00\x05\x02\x00\x00\x00\x00\x01" * 1001,
    "an upgrade to HTTP/2": GET
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    + HTTP2,
    "an upgrade to WebSocket": GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    + bytes(range(256)),
    "CONNECT": b"CONNECT / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT to a path": GET.replace(b"GET", b"CONNECT") + b"\r\n\xff\xfe",
    "HEAD": GET.replace(b"GET", b"HEAD") + b"\r\n",
    "a method that nobody knows": GET.replace(b"GET", b"F*#") + b"\r\n",
    "a path of escapes": GET.replace(b"swagger.json", b"%00%ff%c0%80/../%2e%2e") + b"\r\n",
    "a query of escapes": GET.replace(b".json", b"?access_token=%ff%00&limit=%f0") + b"\r\n",
    "Basic that is none": ADMIN + b"Authorization: Basic \xff\xfe===\r\n\r\n",
    "Basic without a colon": ADMIN + b"Authorization: Basic YWRtaW4=\r\n\r\n",
    "a token that is none": ADMIN + b"Authorization: Bearer \xff.\xff.\xff\r\n\r\n",
    "a token of odd parts": ADMIN + b"Authorization: Bearer e30.e30.e30\r\n\r\n",
    "a body that is no JSON": TOKEN.replace(b"100000", b"9") + b"\xff\xfe{[\x00\x01\x02\x03\x04",
    "JSON that is deep": TOKEN.replace(b"100000", b"50000") + b"[" * 50_000,
    "JSON that is odd": TOKEN.replace(b"100000", b"36")
    + b'{"username":"\\ud800","password":1e999}',
    "chunks that are none": CHUNKED + b"5;\x00\r\nhello\r\nxyz\r\n",
    "a chunk of all that there is": CHUNKED + b"f" * 17 + b"\r\nx",
    "a form with an odd boundary": post(
        f"{BASE}/apis", 'multipart/form-data; boundary="\xe9"', "Content-Length: 5"
    )
    + b"--x\r\n",
    "a form in chunks": post(f"{BASE}/apis", FORM, "Transfer-Encoding: chunked")
    + b"b\r\n--b\r\n\xff: \r\nzz\r\n0\r\n\r\n",
    "a body that is asked for": post(f"{BASE}/apis", FORM, LENGTH, "Expect: 100-continue"),
}


async def test_nonsense_leaves_no_traceback(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("REQUEST_TIMEOUT", "IDLE", "LINGER", "CLOSE_TIMEOUT"):
        monkeypatch.setattr(http1, name, 2.0)
    streams = []
    for data in NONSENSE.values():
        stream = await AdminClient(gateway).connect()
        streams.append(stream)
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(data)
    for stream in streams:
        assert await ended(stream)
    assert faults(caplog) == []
    assert (await (await logged_in(gateway)).list()).status == 200


async def test_resets_leave_no_traceback(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    before = trio.lowlevel.current_statistics().tasks_living
    body, kind = form(packed(gateway.base / "aside" / "chat", "chat"))
    headers = (f"Content-Length: {len(body)}", f"Authorization: {BASIC}")
    upload = post(f"{BASE}/apis", kind, *headers) + body
    for hello in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x05hello", GET + b"\r\n"):
        stream = await bare(gateway)
        await stream.send_all(hello)
        reset(stream)
    cuts = [*range(0, len(upload), len(upload) // 16), len(upload)]
    for data in (*(upload[:cut] for cut in cuts), GET, GET + b"\r\n", (GET + b"\r\n") * 50):
        secure = await AdminClient(gateway).connect()
        await secure.send_all(data)
        reset(secure.transport_stream)
    with trio.fail_after(20):
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.lowlevel.checkpoint()
    assert faults(caplog) == []


async def test_http2_is_not_offered(gateway: RunningGateway) -> None:
    for offered, chosen in ((["h2"], None), (["h2", "http/1.1"], "http/1.1")):
        context = gateway.trust()
        context.set_alpn_protocols(offered)
        stream = trio.SSLStream(await bare(gateway), context, server_hostname="localhost")
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == chosen
        await stream.send_all(GET + b"Connection: close\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
