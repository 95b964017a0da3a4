"""Plain HTTP through the gateway to servers of other people, beside their WebSockets."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from support.running import running
from support.servers import BIG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

PLAIN = {"x-trio-gw-plain-http": True, "x-trio-gw-pass-path": True}
POSTED = b"x" * 300_000


@pytest.fixture(params=["aiohttp", "starlette"])
async def gateway(
    request: pytest.FixtureRequest, base: Path, nursery: trio.Nursery
) -> AsyncIterator[RunningGateway]:
    """Run a server of each kind behind a gateway."""
    async with running(request.param) as url:
        definition = asyncapi({"/*": {"publish": {}}}, **PLAIN)
        write(base / "apis", "p", api("P", "/p", url), definition)
        yield await start_gateway(nursery, base)


def unchunked(body: bytes) -> bytes:
    """Take chunks apart; fails unless the last one is there."""
    found = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        assert body[length : length + 2] == b"\r\n"
        found, body = found + body[:length], body[length + 2 :]
        if not length:
            assert not body
            return found


def chunked(body: bytes) -> bytes:
    """Cut a body into chunks of many sizes, with an extension and a trailer."""
    parts, size = [], 1
    while body:
        piece, body = body[:size], body[size:]
        parts.append(b"%X;a=b\r\n%s\r\n" % (len(piece), piece))
        size = size * 3 + 1
    return b"".join(parts) + b"0\r\nX-Trailer: t\r\n\r\n"


LENGTH = b"Content-Length: %d\r\n\r\n" % len(POSTED) + POSTED
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n" + chunked(POSTED)


REQUESTS = [
    ("GET", b"\r\n", b""),
    ("POST", b"\r\n", b""),
    ("POST", LENGTH, POSTED),
    ("POST", CHUNKS, POSTED),
    ("POST", b"Expect: 100-continue\r\n" + LENGTH, POSTED),
]


async def test_a_request_and_its_answer(gateway: RunningGateway) -> None:
    for tls in (False, True):
        for method, rest, posted in REQUESTS:
            await check(gateway, method, rest, posted, tls=tls)


async def check(
    gateway: RunningGateway, method: str, rest: bytes, posted: bytes, *, tls: bool
) -> None:
    """Make a request, and compare what the server saw of it with what it should."""
    token = gateway.token()
    head = (
        f"{method} /p/1.0.0/http/told?a=%201 HTTP/1.1\r\nHost: localhost\r\nX-Own: 1\r\n"
        f"Authorization: Bearer {token}\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
        f"Upgrade: h2c\r\nX-Forwarded-For: 6.6.6.6\r\nSec-WebSocket-Protocol: secret\r\n"
    )
    answer = await gateway.ask(head.encode() + rest, tls=tls)
    if b"Expect" in rest[:6] and answer.status == 100:
        answer = type(answer)(answer.body)
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    body = answer.body
    if answer.headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    else:
        assert int(answer.headers["content-length"]) == len(body)
    said = type(answer)(b"HTTP/1.1 200 OK\r\n\r\n" + body).json()
    assert said["method"] == method
    assert said["target"] == "/http/told?a=%201"
    assert said["body"] == hashlib.sha256(posted).hexdigest()
    headers: dict[str, Any] = dict(said["headers"])
    assert headers["x-own"] == "1"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-request-id"] == answer.headers["x-request-id"]
    assert headers["connection"] == "close"
    gone = {"authorization", "upgrade", "x-hop", "expect", "sec-websocket-protocol", "x-trailer"}
    assert not gone & headers.keys()
    assert len({"content-length", "transfer-encoding"} & headers.keys()) == (method == "POST")


async def test_head_has_no_body(gateway: RunningGateway) -> None:
    token = f"Authorization: Bearer {gateway.token()}\r\n".encode()
    answer = await gateway.get("/p/1.0.0/http/told", method="HEAD", headers=token)
    assert (answer.status, answer.body) == (200, b"")
    assert "transfer-encoding" not in answer.headers
    refused = await gateway.get("/p/1.0.0/http/told", method="HEAD")
    assert (refused.status, refused.body) == (401, b"")
    assert int(refused.headers["content-length"]) > 0


async def test_websockets_work_beside_it(gateway: RunningGateway) -> None:
    async with gateway.connect("/p/1.0.0/stomp", gateway.token()) as client:
        assert await client.recv() == "/stomp"
        await client.send("x")
        assert await client.recv() == "x"


async def test_all_of_a_big_answer(gateway: RunningGateway) -> None:
    token = f"Authorization: Bearer {gateway.token()}\r\n".encode()
    answer = await gateway.get("/p/1.0.0/http/big", headers=token)
    assert answer.status == 200
    size, rest = 0, memoryview(answer.body)
    while True:
        line = bytes(rest[:20]).partition(b"\r\n")[0]
        length = int(line, 16)
        rest = rest[len(line) + length + 4 :]
        size += length
        if not length:
            break
    assert (size, len(rest)) == (BIG, 0)
