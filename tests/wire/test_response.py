"""What backends answer to an upgrade: heads at every cut, interim answers, refusals' bodies."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from support.conversation import cuts
from trio_gw.errors import Refusal, Side
from trio_gw.wire.exchange import Exchange
from trio_gw.wire.http import MAX_HEAD
from trio_gw.wire.response import MAX_INTERIM, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_gw.wire.response import BackendResponse


ASKED = [
    (b"host", b"backend"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"x", b"y"),
]
JOINED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
CONTINUE, HINTS = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


def asked() -> ResponseReader:
    reader = ResponseReader()
    reader.request("/v2/?a=1", ASKED)
    return reader


def test_the_request() -> None:
    assert ResponseReader().request("/v2/?a=1", ASKED) == (
        b"GET /v2/?a=1 HTTP/1.1\r\nhost: backend\r\nupgrade: websocket\r\n"
        b"connection: Upgrade\r\nx: y\r\n\r\n"
    )


def check_blame(refusal: Refusal) -> None:
    """A backend's fault is named as one (spec: routing §9)."""
    assert refusal.by == Side.BACKEND
    assert refusal.code == {502: "102515", 503: "102510"}[refusal.status]
    assert json.loads(refusal.body)["code"] == refusal.code


def answer_to(chunks: Iterable[bytes]) -> tuple[BackendResponse | int, bytes]:
    """Read the answer's head; returns it or the status of a refusal, and the frames behind it."""
    reader = asked()
    waiting = iter(chunks)
    for chunk in waiting:
        try:
            found = reader.feed(chunk)
        except Refusal as refusal:
            check_blame(refusal)
            return refusal.status, b""
        if found is not None:
            rest = reader.leftover if found.status == 101 else b""
            return found, rest + b"".join(waiting)
    raise AssertionError("no answer")


LIMIT = CONTINUE * MAX_INTERIM


@pytest.mark.parametrize("interim", [b"", CONTINUE, HINTS + CONTINUE, LIMIT])
@pytest.mark.parametrize("frames", [b"", b"\x81\x05hello", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_joined_at_every_cut(interim: bytes, frames: bytes) -> None:
    for chunks in cuts(interim + JOINED + frames):
        found, rest = answer_to(chunks)
        assert not isinstance(found, int)
        assert (found.status, found.reason) == (101, b"Switching Protocols")
        assert found.headers == ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"))
        assert rest == frames


def test_a_length_in_a_101_means_nothing() -> None:
    found, rest = answer_to([JOINED[:-2] + b"Content-Length: 3\r\n\r\n" + b"\x81\x05hello"])
    assert not isinstance(found, int)
    assert (found.status, rest) == (101, b"\x81\x05hello")


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"220 smtp ready\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 101 X\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        CONTINUE * (MAX_INTERIM + 1),
        CONTINUE * (MAX_INTERIM + 1) + JOINED,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD,
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * (MAX_HEAD // 6),
        b"HTTP/1.1 200 " + b"x" * MAX_HEAD,
    ],
)
def test_answers_that_are_not_http(data: bytes) -> None:
    for chunks in ([data], [data[at : at + 1] for at in range(len(data))]):
        assert answer_to(chunks)[0] == 502


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nSet-Cookie: s3cret\rX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie : s3cret\r\n\r\n",
        b"HTTP/1.1 s3cret\r\n\r\n",
    ],
)
def test_a_client_is_not_told_what_a_bad_answer_said(data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        asked().feed(data)
    assert refused.value.status == 502
    assert b"s3cret" not in refused.value.body
    assert "s3cret" not in refused.value.why


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 101", JOINED[:-2], CONTINUE, CONTINUE + b"HT"])
def test_a_backend_that_goes_away_without_an_answer(part: bytes) -> None:
    assert answer_to([part, b""] if part else [b""])[0] == 503


def refusal_of(chunks: Iterable[bytes]) -> tuple[int, bytes, bool]:
    """Read a backend's refusal: its status, its body, and whether it was whole before EOF."""
    reader = asked()
    waiting = iter(chunks)
    while (found := reader.feed(next(waiting))) is None:
        pass
    body, whole = reader.read_body()
    for chunk in waiting:
        if whole:
            break
        more, whole = reader.feed_body(chunk)
        body += more
    before_eof = whole
    if not whole:
        more, whole = reader.feed_body(b"")
        assert whole
        body += more
    return found.status, body, before_eof


@pytest.mark.parametrize(
    ("data", "status", "body", "whole"),
    [
        (b"HTTP/1.1 401 No\r\nContent-Length: 5\r\n\r\nhello", 401, b"hello", True),
        (b"HTTP/1.1 401 No\r\nContent-Length: 5\r\n\r\nhelloMORE", 401, b"hello", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
        (b"HTTP/1.1 204 No\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", 304, b"", True),
        (
            b"HTTP/1.1 426 Up\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n1;x\r\n!\r\n0\r\n\r\n",
            426,
            b"hello!",
            True,
        ),
        (CONTINUE + b"HTTP/1.1 301 Go\r\nContent-Length: 1\r\n\r\nx", 301, b"x", True),
        (b"HTTP/1.1 503 No\r\n\r\nuntil close", 503, b"until close", False),
        (b"HTTP/1.0 403 No\r\n\r\nold", 403, b"old", False),
        (b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\nshort", 401, b"short", False),
        (
            b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort",
            500,
            b"short",
            False,
        ),
        (
            b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
            500,
            b"hello",
            True,
        ),
    ],
)
def test_refusals_of_backends_at_every_cut(
    data: bytes, status: int, body: bytes, whole: bool
) -> None:
    for chunks in cuts(data):
        assert refusal_of(chunks) == (status, body, whole)


@pytest.mark.parametrize(
    "line",
    [
        b"X: \x1b[2J",
        b"X: a\x00b",
        b"X:" + b" " * 15_000 + b"\x0b",
        b"X:" + b" " * 15_000 + b"\ry",
        b"X: a\rY: b",
        b"X\x7f: a",
    ],
)
@pytest.mark.parametrize("status", [b"101 Switching Protocols", b"403 Forbidden", b"103 Hints"])
def test_no_control_character_gets_through(line: bytes, status: bytes) -> None:
    """Neither to a client nor into an expression that takes seconds over it."""
    head = b"HTTP/1.1 " + status + b"\r\nUpgrade: websocket\r\n" + line + b"\r\n\r\n"
    for chunks in ([head], [CONTINUE + head], [head[:40], head[40:]]):
        assert answer_to(chunks) == (502, b"")


def test_controls_in_a_body_are_no_business_of_the_gate() -> None:
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n"
    for chunks in ([head + b"\x00\x1b\r"], [head[:-1], head[-1:] + b"\x00\x1b\r"]):
        found, _ = answer_to(chunks)
        assert not isinstance(found, int)
        assert found.status == 403


def exchanged() -> Exchange:
    exchange = Exchange("GET")
    exchange.request("/", [(b"host", b"backend")], [])
    exchange.end()
    return exchange


@pytest.mark.parametrize("reader", [asked, exchanged], ids=["upgrade", "plain"])
def test_a_head_that_comes_octet_by_octet_costs_as_many_looks(
    reader: Callable[[], ResponseReader | Exchange],
) -> None:
    """Four times as many octets take about four times, not sixteen times."""

    def cost(size: int) -> float:
        head = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nX-Long: " + b"x" * size + b"\r\n\r\n"
        waiting = reader()
        began = time.process_time()
        found = [waiting.feed(head[at : at + 1]) for at in range(len(head))]
        assert found[-1] is not None
        return time.process_time() - began

    least = min(cost(12_000) for _ in range(2))
    assert any(cost(48_000) < 8 * least + 0.01 for _ in range(3))
