"""The gate before everything: request heads, their bodies, and small responses."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.conversation import cuts
from support.examples import examples
from support.heads import GOOD, HOST, MALFORMED, UPGRADE, head, target
from trio_gw.errors import Refusal, Side
from trio_gw.wire import http
from trio_gw.wire.http import RequestReader, response

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trio_gw.wire.head import RequestHead


def judged(chunks: Iterable[bytes]) -> tuple[int, RequestHead | None, bytes]:
    """Feed chunks until the head is there or refused: status (0: accepted), head, leftover."""
    reader = RequestReader()
    waiting = iter(chunks)
    for chunk in waiting:
        try:
            found = reader.feed(chunk)
        except Refusal as refusal:
            check_body(refusal)
            return refusal.status, None, b""
        if found is not None:
            return 0, found, reader.leftover + b"".join(waiting)
    return -1, None, reader.leftover


def check_body(refusal: Refusal) -> None:
    """A refusal is JSON that tells its reader what is wrong."""
    assert refusal.headers[0] == (b"content-type", b"application/json")
    body = json.loads(refusal.body)
    assert list(body) == ["code", "message", "description"]
    assert all(isinstance(value, str) and value for value in body.values())
    assert body["code"] == str(refusal.status)
    assert refusal.by == Side.CLIENT
    assert len(refusal.body) < 300, "nothing of a long request is repeated"
    assert "bytearray" not in body["description"]


def ways(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Cut data as `cuts` does; long data not at every octet but at those that count."""
    if len(data) < 2000:
        yield from cuts(data)
        return
    yield (data,)
    yield tuple(data[at : at + 1] for at in range(len(data)))
    limits = (http.MAX_TARGET, http.MAX_TARGET + http.LINE, http.MAX_HEAD, len(data))
    places = {near + shift for near in limits for shift in range(-6, 7)}
    for at in sorted({*places, *range(1, len(data), 1499)}):
        if 0 < at < len(data):
            yield data[:at], data[at:]


# --- heads that are refused -----------------------------------------------------------------


def test_there_are_enough_kinds() -> None:
    assert len(MALFORMED) >= 44 + 60


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_at_every_cut(kind: str) -> None:
    data, status = MALFORMED[kind]
    for chunks in ways(data):
        assert judged(chunks)[0] == status


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_behind_a_body_and_before_garbage(kind: str) -> None:
    """What follows a refused head changes nothing."""
    data, status = MALFORMED[kind]
    assert judged([data + b"\x00\r\n\r\n" + GOOD])[0] == status


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (head(b"GET / HTTP/1.1", b"X: " + b"a" * 1000), 431, "1000 bytes (setting limits.head)"),
        (head(b"GET /" + b"a" * 500 + b" HTTP/1.1"), 414, "500 bytes (setting limits.target)"),
        (head(b"GET /" + b"a" * 990 + b" HTTP/1.1"), 414, "500 bytes (setting limits.target)"),
    ],
)
def test_bounds_can_be_set_and_are_named(data: bytes, status: int, words: str) -> None:
    for chunks in ways(data):
        reader = RequestReader(http.Bounds(head=1000, target=500))
        with pytest.raises(Refusal) as caught:
            all(reader.feed(chunk) is None for chunk in chunks)
        assert caught.value.status == status
        assert words in json.loads(caught.value.body)["description"]


@pytest.mark.parametrize(
    ("data", "host", "path"),
    [
        (b"GET /health HTTP/1.0\r\n\r\n", "", "/health"),
        (b"OPTIONS /health HTTP/1.0\r\n\r\n", "", "/health"),
        (b"GET /health HTTP/1.0\r\nHost: GW:80\r\n\r\n", "gw", "/health"),
        (b"GET http://gw/health HTTP/1.0\r\n\r\n", "", "/health"),
        (b"GET /a?b HTTP/1.0\r\nX: y\r\n\r\n", "", "/a"),
    ],
)
def test_http_1_0_needs_no_host(data: bytes, host: str, path: str) -> None:
    found = accepted(data)
    assert (found.host, found.path, found.old) == (host, path, True)
    assert not accepted(GOOD).old


@pytest.mark.parametrize(
    "fields",
    [b"Host: a\r\nHost: a\r\n", b"Host: a b\r\n", b"X : y\r\n", b"Transfer-Encoding: x\r\n"],
)
def test_http_1_0_is_judged_as_strictly(fields: bytes) -> None:
    assert judged([b"GET /health HTTP/1.0\r\n" + fields + b"\r\n"])[0] == 400


def test_allow_says_what_is_offered() -> None:
    with pytest.raises(Refusal) as caught:
        RequestReader().feed(head(b"CONNECT gw.example:80 HTTP/1.1"))
    assert (b"allow", b"GET, OPTIONS") in caught.value.headers


def test_tls_on_the_plain_port_is_named() -> None:
    with pytest.raises(Refusal, match="TLS"):
        RequestReader().feed(b"\x16\x03\x01")


def test_nobody_waits_for_a_line_that_cannot_become_valid() -> None:
    for begin in (b"\x16", b"\x00", b"*", b"GET /\x80", b"GET /\tx", b"GET / HTTP/1.1\nX"):
        assert judged([begin])[0] == 400


# --- heads that are accepted ----------------------------------------------------------------


@pytest.mark.parametrize("leftover", [b"", b"\x81\x80\x00\x00\x00\x00", b"\r\n\r\n", GOOD, b"\x00"])
def test_a_good_head_at_every_cut(leftover: bytes) -> None:
    expected = judged([GOOD])[1]
    assert expected is not None
    for chunks in cuts(GOOD + leftover):
        assert judged(chunks) == (0, expected, leftover)


def accepted(data: bytes) -> RequestHead:
    """Accept a head, the same at every cut."""
    first = judged([data])
    for chunks in ways(data):
        assert judged(chunks) == first
    status, found, leftover = first
    assert (status, leftover) == (0, b"")
    assert found is not None
    return found


def test_the_parts_of_a_head() -> None:
    found = accepted(
        head(
            b"GET /a/b?x=1&y HTTP/1.1", b"X-Two: a", b"x-two:\t b , c ", host=b"HOST: GW.Example:1"
        )
    )
    assert (found.method, found.path, found.query) == ("GET", "/a/b", "x=1&y")
    assert (found.host, found.authority) == ("gw.example", b"GW.Example:1")
    assert found.headers == (
        (b"host", b"GW.Example:1"),
        (b"x-two", b"a"),
        (b"x-two", b"b , c"),
    )
    assert found.values(b"x-two") == [b"a", b"b , c"]
    assert not found.values(b"x-three")


@pytest.mark.parametrize(
    ("written", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/a?b?c", "/a", "b?c"),
        (b"/a%20b", "/a%20b", ""),
        (b"/a%2Fb", "/a%2Fb", ""),
        (b"/a%252e%252e", "/a%252e%252e", ""),
        (b"//a//b/", "//a//b/", ""),
        (b"/...", "/...", ""),
        (b"/a..b/.c/d.", "/a..b/.c/d.", ""),
        (b"/a;b=..", "/a;b=..", ""),
        (b"/?a=/../b", "/", "a=/../b"),
        (b"/?a=%2e%2e", "/", "a=%2e%2e"),
        (b"/a:b@c!$&'()*+,=~-_", "/a:b@c!$&'()*+,=~-_", ""),
        (b"http://gw.example", "/", ""),
        (b"http://gw.example?x", "/", "x"),
        (b"HTTP://GW.EXAMPLE/a?x", "/a", "x"),
        (b"wss://gw.example/a", "/a", ""),
        (b"/" + b"x" * 8191, "/" + "x" * 8191, ""),
    ],
)
def test_targets(written: bytes, path: str, query: str) -> None:
    found = accepted(target(written))
    assert (found.path, found.query) == (path, query)


@pytest.mark.parametrize(
    ("written", "host"),
    [
        (b"localhost", "localhost"),
        (b"LOCALHOST:", "localhost"),
        (b"gw.example.", "gw.example"),
        (b"gw.example.:65535", "gw.example"),
        (b"127.0.0.1:9090", "127.0.0.1"),
        (b"[::1]:9090", "[::1]"),
        (b"[2001:DB8::1]", "[2001:db8::1]"),
        (b"my_service-1", "my_service-1"),
    ],
)
def test_hosts(written: bytes, host: str) -> None:
    found = accepted(head(host=b"Host: " + written))
    assert (found.host, found.authority) == (host, written)


@pytest.mark.parametrize("method", ["GET", "get", "POST", "OPTIONS", "HEAD", "DELETE", "M-SEARCH"])
def test_methods_are_not_the_gates_business(method: str) -> None:
    assert accepted(head(method.encode() + b" / HTTP/1.1")).method == method


def test_options_of_the_server() -> None:
    assert accepted(head(b"OPTIONS * HTTP/1.1")).path == "*"


def test_limits_are_inclusive() -> None:
    assert len(accepted(head(b"GET / HTTP/1.1", *[b"X: a"] * 99)).headers) == 100
    rest = http.MAX_HEAD - len(head(b"GET / HTTP/1.1", b"X: "))
    whole = head(b"GET / HTTP/1.1", b"X: " + b"a" * rest)
    assert len(whole) == http.MAX_HEAD
    accepted(whole)
    assert judged([head(b"GET / HTTP/1.1", b"X: a" + b"a" * rest)])[0] == 431


def test_values_may_hold_what_the_rules_allow() -> None:
    found = accepted(head(b"GET / HTTP/1.1", b"X: a\tb \x80\xff", b"Y:", b"Z: :"))
    assert found.headers[1:] == ((b"x", b"a\tb \x80\xff"), (b"y", b""), (b"z", b":"))


def test_equal_lengths_are_one() -> None:
    same = head(b"POST / HTTP/1.1", b"Content-Length: 5", b"Content-Length: 5")
    assert accepted(same).values(b"content-length") == [b"5"]


# --- any head, any cut ----------------------------------------------------------------------

pieces = st.sampled_from(
    b"\r|\n|\r\n|\r\n\r\n| |\t|:|\x00|\x80|%|..|/|a|HTTP/1.1|Host: b".split(b"|")
) | st.sampled_from([b"x" * 4100, b"X: " + b"y" * 8200])


@given(st.data())
@settings(max_examples=examples(500), deadline=None)
def test_the_answer_never_depends_on_the_cuts(data: st.DataObject) -> None:
    spoiled = bytearray(GOOD)
    for piece in data.draw(st.lists(pieces, max_size=5)):
        at = data.draw(st.integers(0, len(spoiled)))
        spoiled[at : at + data.draw(st.integers(0, 3))] = piece
    stream = bytes(spoiled)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    edges = [0, *sorted(places), len(stream)]
    whole = judged([stream])
    assert judged([stream[a:b] for a, b in itertools.pairwise(edges)]) == whole
    assert judged([stream[at : at + 1] for at in range(len(stream))]) == whole


@given(st.binary(max_size=300))
def test_any_octets(data: bytes) -> None:
    assert judged([data]) == judged([data[at : at + 1] for at in range(len(data))])


# --- bodies ---------------------------------------------------------------------------------


def post(*fields: bytes) -> bytes:
    return head(b"POST /testkey HTTP/1.1", *(fields or (b"X: y",)))


def body_of(chunks: Iterable[bytes]) -> bytes | int | None:
    """Read a head and its body; returns the body, the status of a refusal, or None: cut."""
    reader = RequestReader()
    waiting = iter(chunks)
    while reader.feed(next(waiting)) is None:
        pass
    try:
        body = reader.feed_body(reader.leftover)
        while body is None:
            body = reader.feed_body(next(waiting))
    except Refusal as refusal:
        check_body(refusal)
        return refusal.status
    except StopIteration:
        return None
    return body


LENGTH, CHUNKED = b"Content-Length: 11", b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (post(), b""),
        (post(b"Content-Length: 0"), b""),
        (post(LENGTH) + b"scope=a b c", b"scope=a b c"),
        (post(LENGTH) + b"scope=a b c" + b"GET / HTTP/1.1\r\n", b"scope=a b c"),
        (post(LENGTH) + b"scope=a b ", None),
        (post(LENGTH), None),
        (post(CHUNKED) + b"5\r\nscope\r\n6\r\n=a b c\r\n0\r\n\r\n", b"scope=a b c"),
        (post(b"Transfer-Encoding: CHUNKED") + b"1\r\nx\r\n0\r\n\r\n", b"x"),
        (post(CHUNKED) + b"5;x=y\r\nscope\r\n0\r\nTrailer: z\r\n\r\n", b"scope"),
        (post(CHUNKED) + b"0\r\n\r\n", b""),
        (post(CHUNKED) + b"5\r\nsco", None),
        (post(CHUNKED) + b"5\r\nscope\r\n0\r\n", None),
        (post(CHUNKED) + b"x\r\nscope\r\n0\r\n\r\n", 400),
        (post(CHUNKED) + b"-5\r\nscope\r\n0\r\n\r\n", 400),
        (post(CHUNKED) + b"0x5\r\nscope\r\n0\r\n\r\n", 400),
        (post(CHUNKED) + b"5\r\nscopeX\r\n0\r\n\r\n", 400),
        (post(CHUNKED) + b"\r\n", 400),
        (post(CHUNKED) + b"5" * 40 + b"\r\n", 400),
        (post(CHUNKED) + b"0\r\nbad trailer\r\n\r\n", 400),
    ],
)
def test_bodies_at_every_cut(data: bytes, body: bytes | int | None) -> None:
    for chunks in cuts(data):
        assert body_of(chunks) == body


def test_a_body_that_is_too_long() -> None:
    size = http.MAX_BODY
    for length, expected in ((size, b"x" * size), (size + 1, 413)):
        begin = post(b"Content-Length: %d" % length)
        assert body_of([begin + b"x" * length]) == expected
        assert body_of([begin, b"x" * 1000, b"x" * (length - 1000)]) == expected
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (length, b"x" * length)
        assert body_of([post(CHUNKED), chunked]) == expected


def test_a_body_in_very_small_chunks_is_too_long_too() -> None:
    assert body_of([post(CHUNKED), b"1\r\nx\r\n" * (http.MAX_BODY + 1)]) == 413


def test_a_chunk_header_without_end() -> None:
    assert body_of([post(CHUNKED), b"5;" + b"x" * (http.MAX_HEAD + 10)]) == 400


# --- responses ------------------------------------------------------------------------------


def test_a_response_ends_the_connection() -> None:
    assert response(200, [(b"content-type", b"text/plain")], b"hello") == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n"
        b"connection: close\r\n\r\nhello"
    )


def test_an_upgrade_option_stays_beside_close() -> None:
    made = response(426, [(b"upgrade", b"websocket"), (b"connection", b"upgrade")], b"")
    assert b"\r\nconnection: upgrade, close\r\n" in made
    assert made.count(b"connection:") == 1


def test_responses_without_body() -> None:
    assert response(200, [], b"hello", head_only=True).endswith(
        b"content-length: 5\r\nconnection: close\r\n\r\n"
    )
    assert b"content-length" not in response(204, [], b"")
    assert b"content-length" not in response(304, [], b"")


def test_an_unusual_status_has_no_phrase() -> None:
    assert response(299, [], b"").startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("status", [200, 204, 400, 404, 426, 431, 503])
def test_a_third_party_can_read_a_response(status: int) -> None:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    body = b"" if status == 204 else b"hello"
    reader.receive_data(response(status, [(b"x", b"y")], body))
    answer = reader.next_event()
    assert isinstance(answer, h11.Response)
    assert answer.status_code == status
    assert (b"x", b"y") in list(answer.headers)
    data = reader.next_event() if body else h11.Data(b"")
    assert isinstance(data, h11.Data)
    assert data.data == body


def test_the_upgrade_of_these_tests_is_one() -> None:
    """What is malformed above is so for its own reason."""
    assert judged([head(b"GET /chat HTTP/1.1", *UPGRADE, host=HOST)])[0] == 0


_PIECES = st.sampled_from(
    [
        *(
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n\r\n",
            b"\r\n x",
            b" ",
            b"\t",
            b":",
            b"\0",
            b"\x0b",
            b"\x7f",
        ),
        *(
            b"\x7f",
            b"\x85",
            b"%41",
            b"%",
            b"/.",
            b"/..",
            b";",
            b"\\",
            b"#",
            b"?",
            b"*",
            b"[::1]",
            b"|",
        ),
        *(b"Host: b", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"http://a/x"),
    ]
)
_CHANGES = st.lists(
    st.tuples(st.integers(0, 160), st.sampled_from([0, 0, 1, 5]), _PIECES), max_size=3
)


@settings(max_examples=examples(1000))
@given(_CHANGES)
def test_a_head_that_comes_whole_is_judged_as_one_that_does_not(
    changes: list[tuple[int, int, bytes]],
) -> None:
    """The first takes the short way if there is nothing to judge, the second never does."""
    data = head(b"GET /chat/room-1?a=b HTTP/1.1", *UPGRADE, host=HOST)
    for at, length, piece in changes:
        data = data[:at] + piece + data[at + length :]
    assert judged([data]) == judged([data[:1], data[1:]])
