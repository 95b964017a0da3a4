"""Tokens where browsers can put them: among the subprotocols, and in the query if allowed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from support.backends import Backend, read_head, start_echo, start_raw
from support.gateway import KEY, RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

    import trio
    from websockets.trio.server import ServerConnection
    from websockets.typing import Subprotocol


class Served:
    """A gateway and the backend behind it, which speaks `chat` if that is offered."""

    def __init__(self, gateway: RunningGateway, backend: Backend) -> None:
        self.gateway = gateway
        self.backend = backend

    def seen(self, name: str) -> list[str]:
        """Return what the backend saw last under this name."""
        return list(self.backend.requests[-1].headers.get_all(name))


def choose(_: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
    return next((name for name in offered if name == "chat"), None)


async def serve(nursery: trio.Nursery, base: Path, **settings: Any) -> Served:
    backend = await start_echo(nursery, select_subprotocol=choose)
    channels = {
        "/any": {"publish": {}},
        "/open": {"publish": {}, "x-auth-type": "None"},
        "/mapped/{id}": {"publish": {"x-uri-mapping": "/m/{uri.var.id}"}},
    }
    write(base / "apis", "b", api("B", "/b", backend.url), asyncapi(channels))
    return Served(await start_gateway(nursery, base, **settings), backend)


@pytest.fixture
async def served(nursery: trio.Nursery, base: Path) -> Served:
    return await serve(nursery, base)


@pytest.fixture
async def lax(nursery: trio.Nursery, base: Path) -> Served:
    return await serve(nursery, base, query_token=True)


@pytest.mark.parametrize(
    ("before", "after", "chosen", "offered"),
    [
        ([], [], "bearer", []),
        ([], ["chat"], "chat", ["chat"]),
        (["other"], ["chat"], "chat", ["other, chat"]),
        ([], ["other"], "bearer", ["other"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_token_among_the_subprotocols(
    served: Served, before: list[str], after: list[str], chosen: str, offered: list[str], tls: bool
) -> None:
    token = served.gateway.token()
    protocols: Any = [*before, "bearer", token, *after]
    async with served.gateway.connect("/b/1.0.0/any", tls=tls, subprotocols=protocols) as client:
        assert client.subprotocol == chosen
        await client.send("hello")
        assert await client.recv() == "hello"
    assert served.seen("sec-websocket-protocol") == offered
    assert token not in str(served.backend.requests[-1])


async def test_the_token_may_be_on_a_line_of_its_own(served: Served) -> None:
    token = served.gateway.token()
    lines = f"Sec-WebSocket-Protocol: bearer\r\nSec-WebSocket-Protocol: {token}, chat\r\n"
    await served.gateway.upgrade("/b/1.0.0/any", extra=lines.encode())
    assert served.seen("sec-websocket-protocol") == ["chat"]


@pytest.mark.parametrize("marker", ["choreo-oauth2-token", "choreo-test-key"])
@pytest.mark.parametrize(
    ("after", "chosen", "offered"),
    [
        ([], None, []),
        (["chat"], "chat", ["chat"]),
        (["chat.v1", "chat"], "chat", ["chat.v1, chat"]),
    ],
    ids=str,
)
async def test_markers_of_the_family(
    served: Served, marker: str, after: list[str], chosen: str | None, offered: list[str]
) -> None:
    protocols: Any = [marker, served.gateway.token(), *after]
    async with served.gateway.connect("/b/1.0.0/any", subprotocols=protocols) as client:
        assert client.subprotocol == (chosen or marker)
    assert served.seen("sec-websocket-protocol") == offered


async def test_a_token_inside_a_subprotocol(served: Served) -> None:
    encoded = base64.urlsafe_b64encode(served.gateway.token().encode()).decode().rstrip("=")
    protocols: Any = [f"base64url.bearer.authorization.k8s.io.{encoded}", "chat"]
    async with served.gateway.connect("/b/1.0.0/any", subprotocols=protocols) as client:
        assert client.subprotocol == "chat"
    assert served.seen("sec-websocket-protocol") == ["chat"]
    assert encoded not in str(served.backend.requests[-1])


@pytest.mark.parametrize("prefix", ["", "auth-", "a.b."])
async def test_a_token_that_nothing_marks_reaches_no_backend(
    served: Served, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "trio_gw")
    token = served.gateway.token()
    protocols: Any = ["chat", prefix + token]
    async with served.gateway.connect("/b/1.0.0/any", token, subprotocols=protocols) as client:
        assert client.subprotocol == "chat"
    assert served.seen("sec-websocket-protocol") == ["chat"]
    assert token not in caplog.text


async def test_a_marked_token_beside_one_in_a_header(served: Served) -> None:
    token = served.gateway.token()
    lines = (
        f"Authorization: Bearer {token}\r\n"
        f"Sec-WebSocket-Protocol: choreo-oauth2-token, {token}, chat.v1\r\n"
    )
    request = served.gateway.handshake("/b/1.0.0/any", extra=lines.encode())
    answer = await served.gateway.ask(request)
    assert answer.status == 400
    assert b"more than one access token" in answer.body
    assert served.backend.requests == []


async def test_the_marker_is_answered_as_it_was_written(served: Served) -> None:
    token = served.gateway.token()
    request = served.gateway.handshake(
        "/b/1.0.0/any", extra=f"Sec-WebSocket-Protocol: Bearer, {token}\r\n".encode()
    )
    stream = await served.gateway.open()
    await stream.send_all(request)
    assert b"\r\nsec-websocket-protocol: Bearer\r\n" in bytes(await stream.receive_some())


async def test_a_bad_token_among_the_subprotocols(served: Served) -> None:
    for token, code in (("aaa.bbb.ccc", "900901"), ("opaque", "900901")):
        lines = f"Sec-WebSocket-Protocol: bearer, {token}\r\n".encode()
        answer = await served.gateway.ask(served.gateway.handshake("/b/1.0.0/any", extra=lines))
        assert (answer.status, answer.json()["code"]) == (401, code)
        assert "sec-websocket-protocol" not in answer.headers
    assert served.backend.requests == []


@pytest.mark.parametrize("chosen", ["bearer", "the token"])
async def test_a_backend_cannot_choose_what_it_was_not_offered(
    nursery: trio.Nursery, base: Path, chosen: str
) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        head = await read_head(stream)
        assert b"bearer" not in head.lower()
        name = token if chosen == "the token" else chosen
        await stream.send_all(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n"
            % (accept_key(KEY), name.encode())
        )
        await stream.receive_some()

    backend = await start_raw(nursery, handler)
    write(base / "apis", "b", api("B", "/b", backend.url), asyncapi({"/any": {"publish": {}}}))
    gateway = await start_gateway(nursery, base)
    token = gateway.token()
    lines = f"Sec-WebSocket-Protocol: bearer, {token}, chat\r\n".encode()
    answer = await gateway.ask(gateway.handshake("/b/1.0.0/any", extra=lines))
    assert (answer.status, answer.json()["code"]) == (502, "102515")


async def test_a_bearer_without_a_token_is_an_offer_like_any_other(served: Served) -> None:
    token = served.gateway.token()
    protocols: Any = ["chat", "bearer"]
    async with served.gateway.connect("/b/1.0.0/any", token, subprotocols=protocols) as client:
        assert client.subprotocol == "chat"
    assert served.seen("sec-websocket-protocol") == ["chat, bearer"]


async def test_on_an_open_topic_nothing_is_taken_out(served: Served) -> None:
    lines = b"Sec-WebSocket-Protocol: bearer, mine, chat\r\n"
    await served.gateway.upgrade("/b/1.0.0/open?access_token=mine", extra=lines)
    assert served.seen("sec-websocket-protocol") == ["bearer, mine, chat"]
    assert served.backend.requests[-1].path == "/?access_token=mine"


async def test_forwarding_credentials_does_not_forward_these(
    nursery: trio.Nursery, base: Path
) -> None:
    served = await serve(nursery, base, query_token=True, forward_credentials=True)
    token = served.gateway.token()
    lines = f"Sec-WebSocket-Protocol: bearer, {token}\r\n".encode()
    await served.gateway.upgrade("/b/1.0.0/any", extra=lines)
    await served.gateway.upgrade(f"/b/1.0.0/any?access_token={token}&a=1")
    for request in served.backend.requests:
        assert token not in request.path
        assert token not in str(request.headers)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("access_token={}", "/"),
        ("a=1&access_token={}&b=%2F", "/?a=1&b=%2F"),
        ("a=1&access%5Ftoken={}", "/?a=1"),
    ],
)
async def test_a_token_in_the_query(
    lax: Served, query: str, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = lax.gateway.token()
    await lax.gateway.upgrade(f"/b/1.0.0/any?{query.format(token)}")
    assert lax.backend.requests[-1].path == left
    await lax.gateway.upgrade(f"/b/1.0.0/mapped/7?{query.format(token)}")
    assert lax.backend.requests[-1].path == left.replace("/", "/m/7", 1)
    assert token not in caplog.text


async def test_a_token_in_the_query_when_that_is_off(served: Served) -> None:
    token = served.gateway.token()
    request = served.gateway.handshake(f"/b/1.0.0/any?access_token={token}")
    answer = await served.gateway.ask(request)
    assert (answer.status, answer.json()["code"]) == (401, "900901")
    assert token.encode() not in answer.raw
    assert served.backend.requests == []


@pytest.mark.parametrize(
    "places",
    [("header", "protocol"), ("header", "query"), ("protocol", "query"), ("query", "query")],
    ids="+".join,
)
async def test_two_tokens_are_one_too_many(lax: Served, places: tuple[str, str]) -> None:
    token = lax.gateway.token()
    query = "&".join(f"access_token={token}" for place in places if place == "query")
    lines = ""
    if "header" in places:
        lines += f"Authorization: Bearer {token}\r\n"
    if "protocol" in places:
        lines += f"Sec-WebSocket-Protocol: bearer, {token}\r\n"
    answer = await lax.gateway.ask(
        lax.gateway.handshake(f"/b/1.0.0/any?{query}", extra=lines.encode())
    )
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == (
        b'{"code":"400","message":"Bad Request","description":"The request holds more than one'
        b' access token: send the credential once, in one place"}\n'
    )
    assert lax.backend.requests == []


@pytest.mark.parametrize(
    "line",
    [
        b"Sec-WebSocket-Protocol: bearer, a.b.c\rX-Injected: 1",
        b"Sec-WebSocket-Protocol: bearer, a.b.c\nX-Injected: 1",
        b"Sec-WebSocket-Protocol: bearer\r\n , a.b.c",
        b"Sec-WebSocket-Protocol: bearer, a.b.c\x00",
        b'Sec-WebSocket-Protocol: bearer, "a.b.c"',
        b"Sec-WebSocket-Protocol: bearer, a.b.c=",
        b"Sec-WebSocket-Protocol: bearer, a b.c",
        b"Sec-WebSocket-Protocol: bearer, a.b.c\xc3\xa9",
        b"Sec-WebSocket-Protocol: bearer, bearer",
    ],
)
async def test_nothing_is_injected_through_the_subprotocols(served: Served, line: bytes) -> None:
    answer = await served.gateway.ask(
        b"GET /b/1.0.0/any HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        + KEY
        + b"\r\n"
        + line
        + b"\r\n\r\n"
    )
    assert answer.status == 400
    assert "x-injected" not in answer.headers
    assert b"a.b.c" not in answer.raw
    assert served.backend.requests == []
