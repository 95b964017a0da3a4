"""Plain HTTP on topics with the key for it: who is let in, what is passed on, who ends it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.backends import answering, read_head, start_raw
from support.gateway import start_gateway
from support.limited import start_limited
from support.logged import logged
from support.projects import api, asyncapi, write
from support.schemas import validate
from trio_gw.errors import CloseCode
from trio_gw.wire.exchange import MAX_BODY

if TYPE_CHECKING:
    from pathlib import Path

    from support.backends import Backend
    from support.gateway import RunningGateway

KEY = "x-trio-gw-plain-http"
OPEN = {"publish": {}, "x-auth-type": "None", KEY: True}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATH = "/b/1.0.0/t"


async def before(
    nursery: trio.Nursery, base: Path, url: str, topic: Any = OPEN, **settings: Any
) -> RunningGateway:
    """Start a gateway whose topic /b/1.0.0/t has this backend."""
    write(base / "apis", "b", api("B", "/b", url), asyncapi({"/t": topic}))
    return await start_gateway(nursery, base, **settings)


class Silent:
    """A backend that reads, and says nothing; `left` when the gateway hangs up."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.left = trio.Event()

    async def __call__(self, stream: trio.SocketStream) -> None:
        await read_head(stream)
        await self.serve_rest(stream)

    async def serve_rest(self, stream: trio.SocketStream) -> None:
        """Read all that comes behind a head."""
        self.asked.set()
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        self.left.set()


async def emptied(gateway: RunningGateway) -> None:
    """Wait until the last connection has left."""
    with trio.fail_after(30):
        while len(gateway.running.sessions):
            await trio.testing.wait_all_tasks_blocked(0.005)


def request(rest: bytes = b"\r\n", method: str = "GET", path: str = PATH) -> bytes:
    """Write a request; `rest` is what follows the Host."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + rest


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    """Start a backend that says `ok`."""
    return await start_raw(nursery, answering(OK))


# -- who is let in ------------------------------------------------------------------------------


async def test_without_the_key_a_topic_is_for_websockets(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    gateway = await before(nursery, base, backend.url, {**OPEN, KEY: False})
    answer = await gateway.get(PATH)
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
    assert (await gateway.get(PATH, method="POST")).headers["allow"] == "GET, OPTIONS"
    assert (await gateway.get(PATH, method="OPTIONS")).headers["allow"] == "OPTIONS, GET"
    assert not backend.requests


async def test_what_is_no_plain_request(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    gateway = await before(nursery, base, backend.url)
    allow = "OPTIONS, GET, HEAD, POST"
    assert (await gateway.get(PATH, method="OPTIONS")).headers["allow"] == allow
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "get"):
        answer = await gateway.get(PATH, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, allow)
    broken = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert (await gateway.ask(request(broken))).status == 426  # a proxy lost its `Upgrade`
    assert (await gateway.ask(request(b"Upgrade: websocket\r\n\r\n"))).status == 426
    assert (await gateway.ask(request(b"Upgrade: websocket\r\n\r\n", "POST"))).status == 405
    assert (await gateway.ask(request(b"Expect: 200-ok\r\n\r\n", "POST"))).status == 417
    assert (await gateway.ask(request().replace(b"HTTP/1.1", b"HTTP/1.0"))).status == 505
    assert not backend.requests


async def test_it_is_let_in_as_a_handshake_is(nursery: trio.Nursery, base: Path) -> None:
    seen: list[bytes] = []
    backend = await start_raw(nursery, answering(OK, seen))
    topic = {"publish": {"x-scopes": ["chat"], "x-uri-mapping": "/asked"}, KEY: True}
    cors = {"allow_origins": ["https://good.example"]}
    gateway = await before(nursery, base, backend.url, topic, cors=cors, query_token=True)

    async def status(token: str, extra: bytes = b"") -> int:
        bearer = f"Authorization: Bearer {token}\r\n".encode()
        return (await gateway.get(PATH, headers=bearer + extra)).status

    assert (await gateway.get(PATH)).status == 401
    assert await status(gateway.token()) == 403
    assert await status(gateway.token("chat"), b"Origin: https://evil.example\r\n") == 403
    assert (await gateway.get("/b/1.0.0/other")).status == 404
    assert not backend.requests
    answer = await gateway.get(f"{PATH}?access_token={gateway.token('chat')}")
    assert (answer.status, answer.body) == (200, b"ok")
    assert seen[0].startswith(b"GET /asked HTTP/1.1\r\n")
    assert await status(gateway.token("chat"), b"Origin: https://good.example\r\n") == 200
    assert b"authorization" not in b"".join(seen).lower()


async def test_who_is_denied_and_who_is_one_too_many(nursery: trio.Nursery, base: Path) -> None:
    silent = Silent()
    backend = await start_raw(nursery, silent)
    gateway = await before(nursery, base, backend.url, limits={"connections_per_address": 1})
    stream = await gateway.open()
    await stream.send_all(request())
    with trio.fail_after(30):
        await silent.asked.wait()
    answer = await gateway.get(PATH)
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")
    await stream.aclose()
    await emptied(gateway)
    other = base / "denying"
    other.mkdir()
    (other / "certs").symlink_to(base / "certs")
    denying = await before(nursery, other, backend.url, deny=[{"address": "127.0.0.0/8"}])
    assert (await denying.get(PATH)).json()["code"] == "900805"
    assert len(backend.requests) == 1


async def test_requests_count_as_messages(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    tiers = {"Topic": {"events": 4, "per": "31d", "count": "both"}}
    world = await start_limited(nursery, base, backend.url, tiers, topic={KEY: True})
    bearer = f"Authorization: Bearer {world.token()}\r\n".encode()
    answers = [await world.gateway.get("/l/1.0.0/tiered", headers=bearer) for _ in range(3)]
    # Each of them is a message of the client's, and its answer one of the backend's.
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 0
    assert len(backend.requests) == 2


async def test_no_way_to_a_topic_that_is_for_websockets(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    topics = {
        "/*": {**OPEN, "x-trio-gw-pass-path": True},
        "/admin": {**OPEN, KEY: False, "x-trio-gw-pass-path": True},
    }
    write(base / "apis", "b", api("B", "/b", backend.url), asyncapi(topics))
    gateway = await start_gateway(nursery, base)
    assert (await gateway.get("/b/1.0.0/admin")).status == 426
    for path in ("/ADMIN", "/%61dmin", "/admin%2f", "/admin;x=1"):
        assert (await gateway.get(f"/b/1.0.0{path}")).status in (400, 426), path
    assert not backend.requests
    assert (await gateway.get("/b/1.0.0/info")).status == 200


# -- what is passed on --------------------------------------------------------------------------

AMBIGUOUS: dict[str, bytes] = {
    "both framings": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, swapped": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "one length twice": b"Content-Length: 2\r\ncontent-length: 2\r\n\r\nab",
    "one length twice in a list": b"Content-Length: 2, 2\r\n\r\nab",
    "a sign": b"Content-Length: +2\r\n\r\nab",
    "hexadecimal": b"Content-Length: 0x2\r\n\r\nab",
    "an empty length": b"Content-Length: \r\n\r\nab",
    "a space before the colon": b"Content-Length : 2\r\n\r\nab",
    "folded": b"Content-Length:\r\n 2\r\n\r\nab",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "nearly chunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked with a control": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "bare LF in a chunk": b"Transfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n",
    "a signed chunk": b"Transfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n0\r\n\r\n",
    "a long chunk": b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
}


async def test_what_can_be_read_in_two_ways(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    gateway = await before(nursery, base, backend.url)
    for name, rest in AMBIGUOUS.items():
        answer = await gateway.ask(request(rest, "POST"))
        assert answer.status == 400, (name, answer.raw)
        assert answer.raw.count(b"HTTP/1.1 ") == 1
    for rest in (b"Content-Length: 2\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
        assert (await gateway.ask(request(rest, "GET"))).status == 400
    assert not backend.requests


async def test_a_chunk_that_is_malformed_later(nursery: trio.Nursery, base: Path) -> None:
    seen = bytearray()
    begun, left = trio.Event(), trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            seen.extend(data)
            if b"first" in seen:
                begun.set()
        left.set()

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    stream = await gateway.open()
    await stream.send_all(request(b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", "POST"))
    with trio.fail_after(30):
        await begun.wait()
        answer = await gateway.ask(b"2\nab\r\n0\r\n\r\n", stream=stream)
        assert answer.status == 400
        await left.wait()
    assert seen.endswith(b"5\r\nfirst\r\n")  # and no end of the body


async def test_one_request_per_connection(nursery: trio.Nursery, base: Path) -> None:
    seen: list[bytes] = []
    backend = await start_raw(nursery, answering(OK, seen))
    gateway = await before(nursery, base, backend.url)
    hidden = request(path="/b/1.0.0/hidden")
    for first in (
        request(b"Content-Length: 2\r\n\r\nab", "POST"),
        request(b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "POST"),
        request(),
    ):
        answer = await gateway.ask(first + hidden)
        assert (answer.status, answer.body) == (200, b"ok")
    await emptied(gateway)
    assert len(backend.requests) == 3
    assert b"hidden" not in b"".join(seen)


async def test_bodies_are_bounded(nursery: trio.Nursery, base: Path) -> None:
    silent = Silent()
    backend = await start_raw(nursery, silent)
    gateway = await before(nursery, base, backend.url)
    length = b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1)
    assert (await gateway.ask(request(length, "POST"))).status == 413
    assert not backend.requests
    size = MAX_BODY // 4
    chunk = b"%x\r\n%s\r\n" % (size, bytes(size))
    long = b"Transfer-Encoding: chunked\r\n\r\n" + 4 * chunk + b"1\r\nx\r\n"
    assert (await gateway.ask(request(long, "POST"))).status == 413
    with trio.fail_after(30):
        await silent.left.wait()


ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "length": (OK, b"content-length: 2\r\nconnection: close\r\n\r\nok"),
    "until close": (
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nX-Envoy-A: 1\r\n\r\nok",
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    "chunked, and a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;x=y\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\nHTTP/1.1 200 second\r\n\r\n",
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    "more than its length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 second\r\n\r\n",
        b"content-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK,
        b"content-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    "no content": (b"HTTP/1.1 204 None\r\n\r\nodd", b"connection: close\r\n\r\n"),
    "not modified": (
        b"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n",
        b"content-length: 7\r\nconnection: close\r\n\r\n",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_are_framed_anew(nursery: trio.Nursery, base: Path, name: str) -> None:
    given, got = ANSWERS[name]
    backend = await start_raw(nursery, answering(given))
    gateway = await before(nursery, base, backend.url)
    answer = await gateway.ask(request())
    assert answer.raw.endswith(got)
    assert answer.raw.count(b"HTTP/1.1") == 1
    assert not {"keep-alive", "x-envoy-a", "link", "x-trailer"} & answer.headers.keys()


async def test_an_answer_may_come_before_the_whole_body(nursery: trio.Nursery, base: Path) -> None:
    no = b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"
    backend = await start_raw(nursery, answering(no))
    gateway = await before(nursery, base, backend.url)
    answer = await gateway.ask(request(b"Content-Length: 9\r\n\r\nx", "POST"))
    assert (answer.status, answer.headers["content-length"]) == (413, "0")


FAULTS: dict[str, tuple[bytes, int, str]] = {
    "gone": (b"", 503, "102510"),
    "no HTTP": (b"SSH-2.0-x\r\n\r\n", 502, "102515"),
    "a control character": (b"HTTP/1.1 200 OK\r\nX: \x1b[2J\r\n\r\n", 502, "102515"),
    "an upgrade": (
        b"HTTP/1.1 101 No\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        502,
        "102515",
    ),
    "interim without end": (b"HTTP/1.1 102 Wait\r\n\r\n" * 9 + OK, 502, "102515"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_backend_that_gives_no_answer(nursery: trio.Nursery, base: Path, name: str) -> None:
    given, status, code = FAULTS[name]
    backend = await start_raw(nursery, answering(given))
    gateway = await before(nursery, base, backend.url)
    answer = await gateway.get(PATH)
    assert (answer.status, answer.json()["code"]) == (status, code)


async def test_backends_that_are_down(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    gone = "ws://127.0.0.1:1"
    gateway = await before(nursery, base, gone)
    assert (await gateway.get(PATH)).json()["code"] == "102503"
    other = base / "failover"
    other.mkdir()
    (other / "certs").symlink_to(base / "certs")
    endpoints = {
        "endpoint_type": "failover",
        "production_endpoints": {"url": gone},
        "production_failovers": [{"url": backend.url}],
    }
    meta = api("B", "/b", None, endpointConfig=endpoints)
    write(other / "apis", "b", meta, asyncapi({"/t": OPEN}))
    second = await start_gateway(nursery, other)
    assert (await second.get(PATH)).body == b"ok"


async def test_a_backend_that_takes_too_long(nursery: trio.Nursery, base: Path) -> None:
    silent = Silent()
    backend = await start_raw(nursery, silent)
    gateway = await before(nursery, base, backend.url, timeouts={"handshake": 0.2})
    assert (await gateway.get(PATH)).json()["code"] == "102504"
    slow = await gateway.ask(request(b"Content-Length: 9\r\n\r\nx", "POST"))
    assert slow.status == 408
    with trio.fail_after(30):
        await silent.left.wait()


@pytest.mark.parametrize(
    ("head", "cut"),
    [
        (b"Content-Length: 9\r\n\r\nab", b"\r\n\r\nab"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"\r\n\r\n2\r\nab\r\n"),
    ],
)
async def test_an_answer_that_breaks_off(
    nursery: trio.Nursery, base: Path, head: bytes, cut: bytes
) -> None:
    """The client can tell: the length is not reached, or the last chunk is missing."""
    backend = await start_raw(nursery, answering(b"HTTP/1.1 200 OK\r\n" + head))
    gateway = await before(nursery, base, backend.url)
    with logged("trio_gw.connection") as log:
        answer = await gateway.ask(request())
        assert answer.status == 200
        assert answer.raw.endswith(cut)
        line = await log.wait(f"GET {PATH} answered 200 in phase upgrade")
    assert "backend: The backend's answer broke off" in line


async def test_its_event(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    analytics = {"enabled": True, "file": str(base / "a.jsonl")}
    gateway = await before(nursery, base, backend.url, analytics=analytics)
    await gateway.get(PATH, method="POST", body=b"x")
    file = base / "a.jsonl"
    with trio.fail_after(30):
        while not file.exists() or b"\n" not in file.read_bytes():
            await trio.testing.wait_all_tasks_blocked(0.01)
    (event,) = [json.loads(line) for line in file.read_text().splitlines()]
    validate(event)
    assert (event["apiMethod"], event["targetResponseCode"]) == ("POST", 200)


async def test_its_line_in_the_log(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    gateway = await before(nursery, base, backend.url)
    with logged("trio_gw.connection") as log:
        await gateway.get(f"{PATH}?secret=1", method="POST", body=b"x")
        line = await log.wait(f"POST {PATH} answered 200 in phase upgrade")
    assert "secret" not in line
    assert not [one for one in log.texts(logging.WARNING) if "error" in one]


# -- who ends it --------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("rest", [b"\r\n", b"Content-Length: 9\r\n\r\nx"])
async def test_a_client_that_leaves_frees_the_backend(
    nursery: trio.Nursery, base: Path, rest: bytes, *, tls: bool
) -> None:
    silent = Silent()
    backend = await start_raw(nursery, silent)
    gateway = await before(nursery, base, backend.url)
    stream = await gateway.open(tls=tls)
    await stream.send_all(request(rest, "POST"))
    with trio.fail_after(30):
        await silent.asked.wait()
        await stream.aclose()
        await silent.left.wait()
    await emptied(gateway)


async def test_a_slow_reader_slows_the_backend_down(nursery: trio.Nursery, base: Path) -> None:
    """What it has not read is in the sockets' buffers, and nowhere else."""
    piece, most = bytes(1 << 16), 2000
    sent, left = 0, trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_head(stream)
        try:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            while sent < most:
                await stream.send_all(piece)
                sent += 1
        except trio.BrokenResourceError:
            left.set()

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url)
    stream = await gateway.open()
    await stream.send_all(request())
    before_that, same = 0, 0
    with trio.fail_after(60):
        while same < 20:
            await trio.testing.wait_all_tasks_blocked(0.005)
            same = same + 1 if before_that == sent else 0
            before_that = sent
        assert 0 < sent < most // 2
        await stream.aclose()
        await left.wait()
    await emptied(gateway)


async def test_a_request_is_ended_as_a_websocket_would_be(
    nursery: trio.Nursery, base: Path
) -> None:
    silent = Silent()
    backend = await start_raw(nursery, silent)
    gateway = await before(nursery, base, backend.url)
    stream = await gateway.open()
    await stream.send_all(request())
    with trio.fail_after(30), logged("trio_gw.connection") as log:
        await silent.asked.wait()
        for session in gateway.running.sessions:
            session.end(CloseCode.POLICY, "token revoked")
        answer = await gateway.ask(b"", stream=stream)
        assert answer.status == 503
        await silent.left.wait()
        assert "gateway: token revoked" in await log.wait("answered 503 in phase upgrade")


async def test_a_shutdown_leaves_it_some_time(nursery: trio.Nursery, base: Path) -> None:
    asked, answer, silent = trio.Event(), trio.Event(), Silent()

    async def handler(stream: trio.SocketStream) -> None:
        if b"POST" in await read_head(stream):
            await silent.serve_rest(stream)
            return
        asked.set()
        await answer.wait()
        await stream.send_all(OK)

    backend = await start_raw(nursery, handler)
    gateway = await before(nursery, base, backend.url, timeouts={"drain": 1, "close": 1})
    quick, stuck = await gateway.open(), await gateway.open()
    await quick.send_all(request())
    await stuck.send_all(request(method="POST"))
    with trio.fail_after(60):
        await asked.wait()
        await silent.asked.wait()
        gateway.stop.set()
        while not all(session.end_requested for session in gateway.running.sessions):
            await trio.testing.wait_all_tasks_blocked(0.005)
        answer.set()
        assert (await gateway.ask(b"", stream=quick)).body == b"ok"
        assert (await gateway.ask(b"", stream=stuck)).raw == b""
        await silent.left.wait()
    await emptied(gateway)
