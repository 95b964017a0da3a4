"""Malformed requests at a running gateway: each its answer, nothing to the backend, no hang.

The last column of the table in the reliability study is the specification; the unit tests in
`wire/` feed the same heads cut at every octet.
"""

from __future__ import annotations

import gc
import random
import re
from typing import TYPE_CHECKING

import pytest
import trio

from support.backends import Backend, start_echo, start_raw
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

LINE = b"GET /m/1.0.0/t HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
NONCE = b"dGhlIHNhbXBsZSBub25jZQ=="
KEY = b"Sec-WebSocket-Key: " + NONCE + b"\r\n"
REST = HOST + UPGRADE + VERSION + KEY
GOOD = LINE + REST + b"\r\n"


def line(target: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"%s %s %s\r\n" % (method, target, version) + REST + b"\r\n"


def extra(field: bytes) -> bytes:
    return LINE + REST + field + b"\r\n\r\n"


KINDS: dict[str, tuple[bytes, int]] = {
    # Not HTTP, or not this HTTP
    "random octets": (random.Random(3).randbytes(600), 400),
    "high octets only": (bytes(range(128, 256)) * 4, 400),
    "TLS hello on the plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + b"a" * 64, 400),
    "SSH banner": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    "SMTP": (b"EHLO localhost\r\n\r\n", 400),
    "lone blank line": (b"\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /m/1.0.0/t\r\n\r\n", 400),
    "HTTP/1.0": (line(b"/m/1.0.0/t", version=b"HTTP/1.0"), 505),
    "HTTP/2.0 in the line": (line(b"/m/1.0.0/t", version=b"HTTP/2.0"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.2": (line(b"/m/1.0.0/t", version=b"HTTP/1.2"), 505),
    "lower-case http": (line(b"/m/1.0.0/t", version=b"http/1.1"), 400),
    "two spaces in the line": (GOOD.replace(b"GET /", b"GET  /"), 400),
    "tab in the line": (GOOD.replace(b"GET /", b"GET\t/"), 400),
    "four words in the line": (GOOD.replace(b" HTTP", b" x HTTP"), 400),
    "bad method character": (line(b"/m/1.0.0/t", method=b"G@T"), 400),
    # Line ends and controls
    "bare LF": (GOOD.replace(b"\r\n", b"\n"), 400),
    "one bare LF": (GOOD.replace(b"websocket\r\n", b"websocket\n"), 400),
    "bare CR": (GOOD.replace(b"websocket\r\n", b"websocket\r"), 400),
    "NUL in a value": (extra(b"X: a\x00b"), 400),
    "NUL in a name": (extra(b"X\x00: a"), 400),
    "escape character": (extra(b"X: \x1b[31m"), 400),
    "folded line": (extra(b"X: a\r\n b"), 400),
    "folded with tab": (extra(b"X: a\r\n\tb"), 400),
    "first line folded": (LINE + b" X: y\r\n" + REST + b"\r\n", 400),
    # Header syntax
    "space before colon": (extra(b"X : a"), 400),
    "no colon": (extra(b"nonsense"), 400),
    "empty name": (extra(b": a"), 400),
    "space in a name": (extra(b"X Y: a"), 400),
    "non-ASCII name": (extra(b"X\xc3\xa9: a"), 400),
    # Sizes
    "header of 70 KB": (extra(b"X: " + b"a" * 70_000), 431),
    "500 headers": (extra(b"\r\n".join(b"X-%d: a" % n for n in range(500))), 431),
    "101 short headers": (extra(b"\r\n".join(b"X: a" for _ in range(101))), 431),
    "path of 70 KB": (line(b"/" + b"a" * 70_000), 414),
    "query of 70 KB": (line(b"/m/1.0.0/t?" + b"a" * 70_000), 414),
    "method of 70 KB": (b"G" * 70_000, 414),
    # Host
    "no Host": (LINE + UPGRADE + VERSION + KEY + b"\r\n", 400),
    "two Hosts": (extra(b"Host: localhost"), 400),
    "two different Hosts": (extra(b"Host: elsewhere"), 400),
    "empty Host": (GOOD.replace(b"Host: localhost", b"Host: "), 400),
    "Host with user": (GOOD.replace(b"Host: localhost", b"Host: a@localhost"), 400),
    "Host with path": (GOOD.replace(b"Host: localhost", b"Host: localhost/x"), 400),
    "Host list": (GOOD.replace(b"Host: localhost", b"Host: localhost, other"), 400),
    "Host with huge port": (GOOD.replace(b"Host: localhost", b"Host: localhost:99999"), 400),
    "Host with bad port": (GOOD.replace(b"Host: localhost", b"Host: localhost:http"), 400),
    "Host with octet 0x80": (GOOD.replace(b"Host: localhost", b"Host: local\x80host"), 400),
    "unclosed IPv6 Host": (GOOD.replace(b"Host: localhost", b"Host: [::1"), 400),
    # Target
    "absolute target, other host": (line(b"http://elsewhere/m/1.0.0/t"), 400),
    "absolute target, other scheme": (line(b"ftp://localhost/m/1.0.0/t"), 400),
    "authority target": (line(b"localhost:80"), 400),
    "CONNECT": (line(b"localhost:80", method=b"CONNECT"), 405),
    "relative target": (line(b"m/1.0.0/t"), 400),
    "fragment": (line(b"/m/1.0.0/t#x"), 400),
    "octet 0x80 in the path": (line(b"/m/1.0.0/\x80"), 400),
    "bad escape": (line(b"/m/1.0.0/%zz"), 400),
    "cut escape": (line(b"/m/1.0.0/%2"), 400),
    "escaped NUL": (line(b"/m/1.0.0/%00"), 400),
    "dot segments": (line(b"/m/1.0.0/../../etc/passwd"), 400),
    "escaped dots": (line(b"/m/1.0.0/%2e%2e%2fadmin"), 400),
    "half-escaped dots": (line(b"/m/1.0.0/.%2E/admin"), 400),
    "dots behind an escaped slash": (line(b"/m/1.0.0/a%2f..%2fb"), 400),
    "dots behind a backslash": (line(b"/m/1.0.0/..\\admin"), 400),
    "single dot": (line(b"/m/1.0.0/./t"), 400),
    # Bodies and smuggling
    "Content-Length with body": (extra(b"Content-Length: 4") + b"body", 400),
    "chunked body": (extra(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "both": (extra(b"Content-Length: 4\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "two lengths": (extra(b"Content-Length: 0\r\nContent-Length: 4") + b"body", 400),
    "length list": (extra(b"Content-Length: 4, 5"), 400),
    "negative length": (extra(b"Content-Length: -1"), 400),
    "length with plus": (extra(b"Content-Length: +4") + b"body", 400),
    "length in hex": (extra(b"Content-Length: 0x4") + b"body", 400),
    "odd transfer coding": (extra(b"Transfer-Encoding: xchunked"), 400),
    "identity coding": (extra(b"Transfer-Encoding: identity"), 400),
    "coding list": (extra(b"Transfer-Encoding: chunked, identity"), 400),
    # The upgrade itself
    "POST": (line(b"/m/1.0.0/t", method=b"POST"), 405),
    "PUT": (line(b"/m/1.0.0/t", method=b"PUT"), 405),
    "lower-case get": (line(b"/m/1.0.0/t", method=b"get"), 405),
    "no upgrade at all": (LINE + HOST + b"\r\n", 426),
    "no Connection": (GOOD.replace(b"Connection: Upgrade\r\n", b""), 426),
    "Connection: close": (GOOD.replace(b"Connection: Upgrade", b"Connection: close"), 426),
    "Upgrade: h2c": (GOOD.replace(b"Upgrade: websocket", b"Upgrade: h2c"), 426),
    "Upgrade: websocketx": (GOOD.replace(b"Upgrade: websocket", b"Upgrade: websocketx"), 426),
    "version 8": (GOOD.replace(b"Version: 13", b"Version: 8"), 426),
    "version 1337": (GOOD.replace(b"Version: 13", b"Version: 1337"), 426),
    "version 013": (GOOD.replace(b"Version: 13", b"Version: 013"), 426),
    "no version": (GOOD.replace(VERSION, b""), 426),
    "two versions": (extra(b"Sec-WebSocket-Version: 8"), 400),
    "no key": (GOOD.replace(KEY, b""), 400),
    "key of 4 characters": (GOOD.replace(NONCE, b"dGhl"), 400),
    "key of 17 bytes": (GOOD.replace(NONCE, b"dGhlIHNhbXBsZSBub25jZWE="), 400),
    "key not base64": (GOOD.replace(NONCE, b"!GhlIHNhbXBsZSBub25jZQ=="), 400),
    "empty key": (GOOD.replace(NONCE, b""), 400),
    "two keys": (extra(KEY.rstrip()), 400),
    "doubled subprotocol": (extra(b"Sec-WebSocket-Protocol: a, a"), 400),
    "bad subprotocol": (extra(b"Sec-WebSocket-Protocol: a b"), 400),
    "bad extension": (extra(b"Sec-WebSocket-Extensions: =;="), 400),
    "unknown path": (line(b"/nowhere"), 404),
}  # fmt: skip


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    """A backend that nothing may reach."""

    async def never(stream: trio.SocketStream) -> None:
        raise AssertionError("a malformed request reached the backend")

    return await start_raw(nursery, never)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path, backend: Backend) -> RunningGateway:
    channels = {"/t": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "m", api("M", "/m", backend.url), asyncapi(channels))
    return await start_gateway(nursery, base, timeouts={"head": 5})


@pytest.mark.parametrize("kind", KINDS)
async def test_answer(gateway: RunningGateway, backend: Backend, kind: str) -> None:
    request, status = KINDS[kind]
    answer = await gateway.ask(request)
    assert answer.status == status, answer.raw
    assert "close" in answer.headers["connection"]
    problem = answer.json()
    assert problem["code"] == str(status)
    assert problem["message"]
    assert problem["description"]
    if status == 405:
        assert "GET" in answer.headers["allow"]
    if status == 426:
        assert answer.headers["upgrade"] == "websocket"
    if "version" in kind and status == 426:
        assert answer.headers["sec-websocket-version"] == "13"
    assert backend.requests == []


async def test_answers_over_tls(gateway: RunningGateway) -> None:
    for kind in ("bare LF", "version 8", "two keys", "path of 70 KB", "POST", "random octets"):
        request, status = KINDS[kind]
        assert (await gateway.ask(request, tls=True)).status == status, kind


async def test_plain_http_on_the_tls_port(gateway: RunningGateway) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.tls_port)
    async with stream:
        await stream.send_all(GOOD)
        with trio.fail_after(5):
            while await stream.receive_some():
                pass  # a TLS alert at most, then the end


@pytest.mark.parametrize("sent", [b"", b"G", LINE, LINE + HOST], ids=len)
async def test_half_close_before_the_head_is_whole(gateway: RunningGateway, sent: bytes) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        if sent:
            await stream.send_all(sent)
        await stream.send_eof()
        with trio.fail_after(2):
            assert await stream.receive_some() == b""


async def test_second_request_behind_the_upgrade(nursery: trio.Nursery, base: Path) -> None:
    """Smuggled bytes are judged as frames, and refused as such, without reaching the backend."""
    backend = await start_echo(nursery)
    channels = {"/t": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "m", api("M", "/m", backend.url), asyncapi(channels))
    gateway = await start_gateway(nursery, base)
    answer = await gateway.ask(GOOD + b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status == 101
    assert answer.body[:4] == b"\x88" + answer.body[1:2] + (1002).to_bytes(2, "big")
    assert len(backend.requests) == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_slow_head_meets_its_deadline(nursery: trio.Nursery, base: Path, tls: bool) -> None:
    gateway = await start_gateway(nursery, base, timeouts={"head": 0.5})
    with trio.fail_after(3):
        answer = await gateway.ask(LINE + HOST, tls=tls)
    assert answer.status == 408
    assert answer.json()["description"] == "No complete request head within 0.5 seconds."


async def test_silent_tls_hello_meets_the_deadline(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start_gateway(nursery, base, timeouts={"head": 0.5})
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.tls_port)
    async with stream:
        with trio.fail_after(3):
            while await stream.receive_some():
                pass


async def test_many_slow_heads_do_not_hold_up_others(gateway: RunningGateway) -> None:
    streams = [await gateway.open() for _ in range(300)]
    for stream in streams:
        await stream.send_all(LINE)
    with trio.fail_after(1):
        assert (await gateway.get("/health")).status == 200
    for stream in streams:
        await stream.aclose()


async def test_no_kind_leaves_anything_behind(gateway: RunningGateway) -> None:
    """Every kind many times over: no session, no task and hardly any memory is left."""

    async def storm(rounds: int) -> None:
        for _ in range(rounds):
            for request, status in KINDS.values():
                assert (await gateway.ask(request)).status == status

    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(re.split(r"\s", file.read())[1]) * 4096

    await storm(2)
    before, tasks = resident(), trio.lowlevel.current_statistics().tasks_living
    await storm(6)
    assert resident() - before < 4 << 20
    with trio.fail_after(5):
        while len(gateway.running.sessions):
            await trio.lowlevel.checkpoint()
    assert trio.lowlevel.current_statistics().tasks_living <= tasks


def test_enough_kinds() -> None:
    assert len(KINDS) >= 50
