"""What backends can answer to an upgrade, and what may reach them."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.backends import Backend, answering, read_head, start_echo, start_raw
from support.gateway import KEY, RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

OPEN = {"publish": {}, "x-auth-type": "None"}
ACCEPT = accept_key(KEY)
UPGRADED = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
VALID = UPGRADED + b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"


async def before(
    nursery: trio.Nursery, base: Path, url: str, topic: Any = OPEN, **settings: Any
) -> RunningGateway:
    """Start a gateway whose topic /b/1.0.0/t has this backend."""
    write(base / "apis", "b", api("B", "/b", url), asyncapi({"/t": topic}))
    return await start_gateway(nursery, base, **settings)


LARGE = b"e" * 300_000
REFUSALS: dict[str, tuple[bytes, int, bytes]] = {
    "200 with length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "200 until close": (b"HTTP/1.1 200 OK\r\n\r\nuntil close", 200, b"until close"),
    "200 chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        200,
        b"abcde",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "301": (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 301, b""),
    "401": (b"HTTP/1.1 401 No\r\nWWW-Authenticate: X\r\nContent-Length: 3\r\n\r\nwho", 401, b"who"),
    "403": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nno way", 403, b"no way"),
    "426": (b"HTTP/1.1 426 X\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n", 426, b""),
    "503": (b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy", 503, b"busy"),
    "large": (b"HTTP/1.1 500 X\r\nContent-Length: 300000\r\n\r\n" + LARGE, 500, LARGE),
    "body cut short": (b"HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nhalf", 500, b"half"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSALS)
async def test_refusal_reaches_the_client_and_nothing_follows_it(
    nursery: trio.Nursery, base: Path, kind: str
) -> None:
    answer, status, body = REFUSALS[kind]
    seen: list[bytes] = []
    backend = await start_raw(nursery, answering(answer, seen))
    gateway = await before(nursery, base, backend.url)
    smuggled = b"GET /b/1.0.0/t HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: yes\r\n\r\n"
    got = await gateway.ask(gateway.handshake("/b/1.0.0/t") + smuggled)
    assert (got.status, got.body) == (status, body)
    assert got.headers["connection"] == "close"
    for name in ("www-authenticate", "location", "retry-after", "sec-websocket-version"):
        assert (name in got.headers) == (name.encode() in answer.lower())
    assert len(seen) == 1, "the client's next bytes reached the backend"
    assert b"smuggled" not in seen[0].lower()


INVALID: dict[str, bytes] = {
    "no accept": UPGRADED + b"\r\n",
    "wrong accept": UPGRADED + b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    "two accepts": VALID + b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n",
    "no upgrade": VALID.replace(b"Upgrade: websocket\r\n", b"") + b"\r\n",
    "other upgrade": VALID.replace(b"websocket", b"h2c", 1) + b"\r\n",
    "no connection": VALID.replace(b"Connection: Upgrade\r\n", b"") + b"\r\n",
    "unasked subprotocol": VALID + b"Sec-WebSocket-Protocol: chat\r\n\r\n",
    "unasked extension": VALID + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    "not HTTP": b"\x15\x03\x01\x00\x02\x02\x46",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "huge head": b"HTTP/1.1 101 X\r\nX: " + b"a" * 70_000,
    "endless interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
}


@pytest.mark.parametrize("kind", INVALID)
async def test_invalid_answer_is_502(nursery: trio.Nursery, base: Path, kind: str) -> None:
    backend = await start_raw(nursery, answering(INVALID[kind]))
    gateway = await before(nursery, base, backend.url)
    got = await gateway.ask(gateway.handshake("/b/1.0.0/t"))
    assert (got.status, got.json()["code"]) == (502, "102515")
    assert str(backend.port) not in got.raw.decode()


async def test_backend_that_hangs_up_is_503(nursery: trio.Nursery, base: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_head(stream)

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    got = await gateway.ask(gateway.handshake("/b/1.0.0/t"))
    assert (got.status, got.json()["code"]) == (503, "102510")


async def test_backend_that_resets_is_503(nursery: trio.Nursery, base: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_head(stream)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger: on, 0 s; close resets
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    got = await gateway.ask(gateway.handshake("/b/1.0.0/t"))
    assert (got.status, got.json()["code"]) == (503, "102510")


async def test_backend_that_is_down_is_503(nursery: trio.Nursery, base: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gateway = await before(nursery, base, f"ws://127.0.0.1:{unused.getsockname()[1]}")
        got = await gateway.ask(gateway.handshake("/b/1.0.0/t"))
    assert (got.status, got.json()["code"]) == (503, "102503")
    assert got.json()["message"] == "Upstream connection failed"


async def test_backend_that_never_answers_is_504(nursery: trio.Nursery, base: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.receive_some()

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url, timeouts={"handshake": 0.3})
    got = await gateway.ask(gateway.handshake("/b/1.0.0/t"))
    assert (got.status, got.json()["code"]) == (504, "102504")
    assert got.json()["description"] == "upstream request timeout"


async def test_tls_backend_with_unknown_certificate_is_503(
    nursery: trio.Nursery, base: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(base / "certs" / "mg.pem", base / "certs" / "mg.key")
    backend = await start_echo(nursery, ssl=context)
    gateway = await before(nursery, base, f"wss://localhost:{backend.port}")
    got = await gateway.ask(gateway.handshake("/b/1.0.0/t"))
    assert (got.status, got.json()["code"]) == (503, "102503")


@pytest.mark.parametrize("preserve", [False, True])
async def test_tls_names_the_endpoint_whatever_the_host(
    nursery: trio.Nursery, base: Path, *, preserve: bool
) -> None:
    """With `preserve_host` the client's Host goes inside; name and certificate stay the backend's.

    What a client says of its host in other headers is not believed.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(base / "certs" / "mg.pem", base / "certs" / "mg.key")
    named: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    backend = await start_echo(nursery, ssl=context)
    trusting = {"backend_ca": str(base / "certs" / "mg.pem")}
    url = f"wss://localhost:{backend.port}"
    gateway = await before(nursery, base, url, preserve_host=preserve, tls=trusting)
    request = gateway.handshake("/b/1.0.0/t", extra=b"X-Forwarded-Host: evil.example\r\n")
    own = b"Host: localhost:%d" % gateway.port
    stream = await gateway.open()
    await stream.send_all(request.replace(own, b"Host: Chat.example:8443"))
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
    assert named == ["localhost"]
    seen = backend.requests[-1].headers
    assert seen["host"] == ("Chat.example:8443" if preserve else f"localhost:{backend.port}")
    assert seen["x-forwarded-host"] == "Chat.example:8443"


async def test_interim_answers_and_early_frames(nursery: trio.Nursery, base: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n")
        # The first frames in the same segment as the head, and headers a 101 must not have.
        frames = b"\x81\x05early\x81\x03two"
        await stream.send_all(VALID + b"Content-Length: 7\r\nServer: here\r\n\r\n" + frames)
        await stream.receive_some()

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    stream = await gateway.open()
    async with stream:
        await stream.send_all(gateway.handshake("/b/1.0.0/t"))
        got = b""
        with trio.fail_after(5):
            while b"two" not in got:
                got += await stream.receive_some()
    head, _, frames = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"server: here" in head
    assert b"content-length" not in head.lower()
    assert frames == b"\x81\x05early\x81\x03two"


async def test_frames_of_the_client_in_the_segment_of_its_handshake(
    nursery: trio.Nursery, base: Path
) -> None:
    backend = await start_echo(nursery)
    gateway = await before(nursery, base, backend.url)
    stream = await gateway.open()
    async with stream:
        frame = b"\x81\x85\x00\x00\x00\x00first"
        await stream.send_all(gateway.handshake("/b/1.0.0/t") + frame)
        got = b""
        with trio.fail_after(5):
            while not got.endswith(b"\x81\x05first"):
                got += await stream.receive_some()


async def test_client_that_leaves_while_dialing_frees_the_backend(
    nursery: trio.Nursery, base: Path
) -> None:
    left = trio.Event()
    asked = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        await read_head(stream)
        asked.set()
        assert await stream.receive_some() == b""
        left.set()

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    stream = await gateway.open()
    await stream.send_all(gateway.handshake("/b/1.0.0/t"))
    with trio.fail_after(5):
        await asked.wait()
        await stream.aclose()
        await left.wait()


async def headers_seen(
    gateway: RunningGateway, backend: Backend, token: str | None, extra: bytes
) -> list[tuple[str, str]]:
    """Open a connection with these header lines; return what the backend saw."""
    stream = await gateway.upgrade("/b/1.0.0/t?a=1&b=%20", token, extra=extra)
    await stream.aclose()
    assert backend.requests[-1].path == "/v2?a=1&b=%20"
    return [(name.lower(), value) for name, value in backend.requests[-1].headers.raw_items()]


FORGED = (
    b"X-Forwarded-For: 10.9.9.9\r\nX_Forwarded_For: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\n"
    b"X-Real-IP: 10.9.9.9\r\nX-JWT-Assertion: forged\r\nX-Envoy-Max-Retries: 10\r\n"
    b"X-WSO2-Cluster-Header: forged\r\nKeep-Alive: 9\r\nTE: trailers\r\nProxy-Authorization: x\r\n"
    b"X-Forwarded-Proto: forged\r\nX-Forwarded-Host: forged\r\n"
)


async def test_headers_at_the_backend(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    gateway = await before(nursery, base, f"{backend.url}/v2", {"publish": {}})
    own = (
        b"Cookie: a=1\r\nCookie: b=2\r\nOrigin: http://here\r\nX-Request-ID: req-1\r\n"
        b"X-Header-One: One\r\nInternal-Key: k\r\nApiKey: k\r\nUser-Agent: test\r\n"
    )
    seen = await headers_seen(gateway, backend, gateway.token(), FORGED + own)
    names = [name for name, _ in seen]
    assert seen[0] == ("host", f"127.0.0.1:{backend.port}")
    for pair in (
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("origin", "http://here"),
        ("x-header-one", "One"),
        ("user-agent", "test"),
        ("x-request-id", "req-1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", f"localhost:{gateway.port}"),
        ("sec-websocket-key", KEY.decode()),
        ("sec-websocket-version", "13"),
    ):
        assert seen.count(pair) == 1, pair
    gone = {"authorization", "internal-key", "apikey", "forwarded", "x-real-ip", "x_forwarded_for"}
    gone |= {"x-jwt-assertion", "x-envoy-max-retries", "x-wso2-cluster-header", "keep-alive", "te"}
    assert not gone & set(names)
    assert not [value for _, value in seen if "10.9.9.9" in value or "forged" in value]
    assert len([name for name in names if name.startswith("x-forwarded-")]) == 3


async def test_forward_credentials(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    url = f"{backend.url}/v2"
    gateway = await before(nursery, base, url, {"publish": {}}, forward_credentials=True)
    token = gateway.token()
    seen = await headers_seen(gateway, backend, token, b"")
    assert ("authorization", f"Bearer {token}") in seen


async def test_credentials_on_an_open_topic_are_the_backends(
    nursery: trio.Nursery, base: Path
) -> None:
    """Reference test J26."""
    backend = await start_echo(nursery)
    gateway = await before(nursery, base, f"{backend.url}/v2")
    seen = await headers_seen(gateway, backend, "dGVzdHRva2VuIC1uCg==", b"")
    assert ("authorization", "Bearer dGVzdHRva2VuIC1uCg==") in seen


async def test_trusted_proxy(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    url = f"{backend.url}/v2"
    gateway = await before(nursery, base, url, trusted_proxies=["127.0.0.0/8"])
    extra = (
        b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: chat.example\r\n"
    )
    seen = await headers_seen(gateway, backend, None, extra)
    assert ("x-forwarded-for", "203.0.113.9, 10.0.0.1, 127.0.0.1") in seen
    assert ("x-forwarded-proto", "https") in seen
    assert ("x-forwarded-host", "chat.example") in seen
