"""The opening handshake: what is asked, what is answered, and which headers go where."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.conversation import cuts
from support.examples import examples
from support.heads import HOST, KEY, UPGRADE, head
from trio_gw.errors import Refusal, Side
from trio_gw.wire.end_to_end import end_to_end
from trio_gw.wire.handshake import (
    Accepted,
    Upgrade,
    accept_key,
    check_request,
    check_response,
    client_response,
    is_upgrade,
    request_id,
)
from trio_gw.wire.head import RequestHead
from trio_gw.wire.http import RequestReader
from trio_gw.wire.response import BackendResponse, ResponseReader

HEAD = RequestHead("GET", "/chat", "", "gw.example", b"gw.example", ())


def request(*changes: bytes, without: str = "", line: bytes = b"GET /chat HTTP/1.1") -> bytes:
    """Build a good upgrade request, then leave fields out by name and add others."""
    kept = [field for field in UPGRADE if not without or not re.match(without.encode(), field)]
    return head(line, *kept, *changes)


def judged(data: bytes) -> Upgrade | Refusal:
    """Judge a request as a connection does; the same at every cut."""
    answers: list[Upgrade | Refusal] = []
    for chunks in cuts(data):
        reader = RequestReader()
        try:
            for chunk in chunks:
                if (found := reader.feed(chunk)) is not None:
                    answers.append(check_request(found))
                    break
        except Refusal as refusal:
            answers.append(refusal)
    first = answers[0]
    for answer in answers:
        if isinstance(first, Refusal):
            assert isinstance(answer, Refusal)
            # Of several faults the one that shows first is named; the answer is the same kind.
            assert (answer.status, answer.headers) == (first.status, first.headers)
        else:
            assert answer == first
    return first


def accepted(data: bytes) -> Upgrade:
    found = judged(data)
    assert isinstance(found, Upgrade)
    return found


# --- requests -------------------------------------------------------------------------------


def test_the_rfcs_own_example() -> None:
    """RFC 6455 §1.3."""
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    found = accepted(request(b"Sec-WebSocket-Protocol: chat, superchat"))
    assert found == Upgrade(KEY, ("chat", "superchat"), ())


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


@pytest.mark.parametrize(
    ("data", "protocols", "extensions"),
    [
        (request(), (), ()),
        (request(b"upgrade: WebSocket", without="Upgrade"), (), ()),
        (request(b"Upgrade: h2c, websocket", without="Upgrade"), (), ()),
        (request(b"Connection: keep-alive, UPGRADE", without="Connection"), (), ()),
        (request(b"Connection: keep-alive"), (), ()),
        (request(b"Content-Length: 0"), (), ()),
        (request(b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: b"), ("a", "b"), ()),
        (request(b"Sec-WebSocket-Protocol:"), (), ()),
        (request(b"Sec-WebSocket-Protocol: bearer, a.b-c~"), ("bearer", "a.b-c~"), ()),
        (request(DEFLATE), (), ("permessage-deflate",)),
        (request(b"Sec-WebSocket-Extensions:"), (), ()),
        (request(b"Sec-WebSocket-Extensions: , a ,, b;c;d = 1,"), (), ("a", "b")),
        (request(b'Sec-WebSocket-Extensions: a; b="x, y; \\" z", c'), (), ("a", "c")),
        (request(DEFLATE, DEFLATE), (), ("permessage-deflate",) * 2),
    ],
)
def test_requests_that_are_accepted(
    data: bytes, protocols: tuple[str, ...], extensions: tuple[str, ...]
) -> None:
    assert accepted(data) == Upgrade(KEY, protocols, extensions)


def keyed(*keys: bytes) -> bytes:
    return request(*(b"Sec-WebSocket-Key: " + key for key in keys), without="Sec-WebSocket-Key")


def extending(value: bytes) -> bytes:
    return request(b"Sec-WebSocket-Extensions: " + value)


VERSION = b"Sec-WebSocket-Version: "


@pytest.mark.parametrize(
    ("data", "status"),
    [
        # methods
        (request(line=b"POST /chat HTTP/1.1"), 405),
        (request(line=b"PUT /chat HTTP/1.1"), 405),
        (request(line=b"HEAD /chat HTTP/1.1"), 405),
        (request(line=b"get /chat HTTP/1.1"), 405),
        (request(b"Content-Length: 4", line=b"POST /chat HTTP/1.1"), 405),
        # bodies
        (request(b"Content-Length: 4") + b"body", 400),
        (request(b"Content-Length: 00"), 400),
        (request(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (request(b"Content-Length: 4", b"Transfer-Encoding: chunked"), 400),
        # not an upgrade
        (request(without="Upgrade"), 426),
        (request(without="Connection"), 426),
        (request(b"Upgrade: h2c", without="Upgrade"), 426),
        (request(b"Upgrade: websockets", without="Upgrade"), 426),
        (request(b"Upgrade: websocket/13", without="Upgrade"), 426),
        (request(b"Connection: keep-alive", without="Connection"), 426),
        (request(b"Connection: Upgrades", without="Connection"), 426),
        (head(b"GET /chat HTTP/1.1", b"Accept: */*"), 426),
        # versions
        (request(without="Sec-WebSocket-Version"), 426),
        (request(VERSION + b"8", without="Sec-WebSocket-Version"), 426),
        (request(VERSION + b"1337", without="Sec-WebSocket-Version"), 426),
        (request(VERSION + b"013", without="Sec-WebSocket-Version"), 426),
        (request(VERSION + b"13, 8", without="Sec-WebSocket-Version"), 426),
        (request(VERSION + b"13"), 400),
        (request(VERSION + b"8"), 400),
        # keys
        (keyed(), 400),
        (keyed(b""), 400),
        (keyed(b"abcd"), 400),
        (keyed(KEY, KEY), 400),
        (keyed(KEY, b"AAAAAAAAAAAAAAAAAAAAAA=="), 400),
        (keyed(KEY[:-1]), 400),
        (keyed(KEY + b"="), 400),
        (keyed(base64.b64encode(bytes(15))), 400),
        (keyed(base64.b64encode(bytes(17))), 400),
        (keyed(base64.b64encode(bytes(18))), 400),
        (keyed(b"=" * 24), 400),
        (keyed(b"dGhlIHNhbXBsZSBub25jZ!=="), 400),
        (keyed(b"dGhl IHNhbXBsZSBub25jZQ="), 400),
        (keyed(b"dGhlIHNhbXBsZSBub25jZQ\x80\x80"), 400),
        (keyed(b"-_hlIHNhbXBsZSBub25jZQ=="), 400),
        # subprotocols
        (request(b"Sec-WebSocket-Protocol: a b"), 400),
        (request(b"Sec-WebSocket-Protocol: a, a"), 400),
        (request(b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: a"), 400),
        (request(b"Sec-WebSocket-Protocol: a/b"), 400),
        (request(b"Sec-WebSocket-Protocol: \xe9"), 400),
        (request(b'Sec-WebSocket-Protocol: "a"'), 400),
        # extensions
        (extending(b"a b"), 400),
        (extending(b"a/b"), 400),
        (extending(b";a"), 400),
        (extending(b"a;"), 400),
        (extending(b"a;;b"), 400),
        (extending(b"a;=1"), 400),
        (extending(b"a;b="), 400),
        (extending(b"a;b=1=2"), 400),
        (extending(b'a;b="'), 400),
        (extending(b'a;b="x'), 400),
        (extending(b'a;b="x\\"'), 400),
        (extending(b'a;b="x"y'), 400),
        (extending(b'"a"'), 400),
        (extending(b'foo; a=", permessage-deflate'), 400),
        (extending(b"\xe9"), 400),
    ],
)
def test_requests_that_are_refused(data: bytes, status: int) -> None:
    refusal = judged(data)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    body = json.loads(refusal.body)
    assert list(body) == ["code", "message", "description"]
    headers = dict(refusal.headers)
    if status == 405:
        assert b"GET" in headers[b"allow"]
    if status == 426:
        # RFC 9110 §15.5.22; RFC 6455 §4.2.2: the version that would do.
        assert headers[b"upgrade"] == b"websocket"
        assert headers[b"connection"] == b"upgrade"


def test_a_wrong_version_is_told_the_right_one() -> None:
    for data in (
        request(without="Sec-WebSocket-Version"),
        request(VERSION + b"8", without="Sec-WebSocket-Version"),
    ):
        refusal = judged(data)
        assert isinstance(refusal, Refusal)
        assert dict(refusal.headers)[b"sec-websocket-version"] == b"13"


@given(st.binary(min_size=16, max_size=16))
def test_every_key_of_16_bytes(nonce: bytes) -> None:
    key = base64.b64encode(nonce)
    fields = (
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-key", key),
        (b"sec-websocket-version", b"13"),
    )
    assert check_request(HEAD.replace(headers=fields)).key == key


@pytest.mark.parametrize(
    "value",
    [
        b"a" * 16_000 + b'"',
        b'"' * 16_001,
        b'a;b="' + b"x" * 16_000,
        b'a;b="' + b'\\"' * 8000,
        b"a" + b";b" * 8000 + b"=",
        b" " * 16_000 + b'"',
        b"a," * 8000 + b'"',
        b"," * 16_000 + b'"',
    ],
)
def test_no_extensions_field_makes_it_slow(value: bytes) -> None:
    fields = (
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-extensions", value),
    )
    began = time.perf_counter()
    with pytest.raises(Refusal):
        check_request(HEAD.replace(headers=fields))
    assert time.perf_counter() - began < 1, "milliseconds are enough"


@pytest.mark.parametrize(
    ("value", "asks"),
    [(b"websocket", True), (b"WEBSOCKET", True), (b"h2c, websocket", True), (b"h2c", False)],
)
def test_is_upgrade(value: bytes, asks: bool) -> None:
    assert is_upgrade(HEAD.replace(headers=((b"upgrade", value),))) is asks
    assert not is_upgrade(HEAD)


# --- request ids --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([b"abc-123"], b"abc-123"),
        ([b"3f0c:1/a+b=._"], b"3f0c:1/a+b=._"),
        ([b"x" * 128], b"x" * 128),
        ([], b""),
        ([b""], b""),
        ([b"a", b"a"], b""),
        ([b"x" * 129], b""),
        ([b"a b"], b""),
        ([b"a\tb"], b""),
        ([b'"'], b""),
        ([b"\x80"], b""),
        ([b"a\n"], b""),
        ([b"a,b"], b""),
    ],
)
def test_request_ids(values: list[bytes], kept: bytes) -> None:
    fields = tuple((b"x-request-id", value) for value in values)
    assert request_id(HEAD.replace(headers=fields)) == kept


# --- answers --------------------------------------------------------------------------------

ASKED = Upgrade(KEY, ("a", "b"), ("permessage-deflate", "x-other"))
PROOF = (b"sec-websocket-accept", accept_key(KEY))
JOINED = ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"), PROOF)


def answer(*fields: tuple[bytes, bytes], without: bytes = b"") -> BackendResponse:
    kept = tuple(field for field in JOINED if field[0] != without)
    return BackendResponse(101, b"Switching Protocols", (*kept, *fields))


def chosen(value: bytes) -> tuple[bytes, bytes]:
    return b"sec-websocket-extensions", value


PROTOCOL = b"sec-websocket-protocol"


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        (answer(), Accepted("", 0)),
        (answer((b"upgrade", b"WebSocket"), without=b"upgrade"), Accepted("", 0)),
        (answer((b"connection", b"keep-alive, upgrade"), without=b"connection"), Accepted("", 0)),
        (answer((PROTOCOL, b"b")), Accepted("b", 0)),
        (answer((PROTOCOL, b"")), Accepted("", 0)),
        (answer((PROTOCOL, b""), (PROTOCOL, b"b")), Accepted("b", 0)),
        (answer(chosen(b"")), Accepted("", 0)),
        (answer(chosen(b"permessage-deflate; server_no_context_takeover")), Accepted("", 0x40)),
        (answer(chosen(b"x-other")), Accepted("", 0x70)),
        (answer(chosen(b"x-other, permessage-deflate")), Accepted("", 0x70)),
        (answer(chosen(b"x-other"), chosen(b"permessage-deflate")), Accepted("", 0x70)),
    ],
)
def test_answers_that_are_accepted(said: BackendResponse, accepted: Accepted) -> None:
    assert check_response(ASKED, said) == accepted


@pytest.mark.parametrize(
    "said",
    [
        answer(without=b"upgrade"),
        answer((b"upgrade", b"h2c"), without=b"upgrade"),
        answer((b"upgrade", b"websocket, h2c"), without=b"upgrade"),
        answer((b"upgrade", b"websocket")),
        answer(without=b"connection"),
        answer((b"connection", b"close"), without=b"connection"),
        answer(without=b"sec-websocket-accept"),
        answer((b"sec-websocket-accept", b""), without=b"sec-websocket-accept"),
        answer((b"sec-websocket-accept", accept_key(b"x")), without=b"sec-websocket-accept"),
        answer((b"sec-websocket-accept", PROOF[1].lower()), without=b"sec-websocket-accept"),
        answer((b"sec-websocket-accept", PROOF[1] + b"="), without=b"sec-websocket-accept"),
        answer(PROOF),
        answer((b"sec-websocket-accept", b"other")),
        answer((PROTOCOL, b"c")),
        answer((PROTOCOL, b"A")),
        answer((PROTOCOL, b"a, b")),
        answer((PROTOCOL, b"a"), (PROTOCOL, b"b")),
        answer((PROTOCOL, b"a"), (PROTOCOL, b"a")),
        answer(chosen(b"x-unasked")),
        answer(chosen(b"permessage-deflate, x-unasked")),
        answer(chosen(b"Permessage-Deflate")),
        answer(chosen(b"permessage-deflate, permessage-deflate")),
        answer(chosen(b"permessage-deflate"), chosen(b"permessage-deflate")),
        answer(chosen(b"permessage deflate")),
        answer(chosen(b'permessage-deflate; a="')),
    ],
)
def test_answers_that_are_refused(said: BackendResponse) -> None:
    with pytest.raises(Refusal) as caught:
        check_response(ASKED, said)
    refusal = caught.value
    assert (refusal.status, refusal.code, refusal.by) == (502, "102515", Side.BACKEND)


def test_other_letters_are_left_for_the_client_to_judge() -> None:
    said = answer((PROTOCOL, b"A"))
    assert check_response(ASKED, said, strict=False) == Accepted("A", 0, other_case=True)
    assert check_response(ASKED, answer((PROTOCOL, b"a")), strict=False) == Accepted("a", 0)
    for other in (b"c", b"a, b"):
        with pytest.raises(Refusal):
            check_response(ASKED, answer((PROTOCOL, other)), strict=False)


def test_an_empty_choice_is_not_passed_on() -> None:
    made = client_response(answer((PROTOCOL, b""), (b"x-other", b"")))
    assert PROTOCOL not in made
    assert b"\r\nx-other: \r\n" in made


def described(asked: bytes) -> tuple[int, str]:
    refusal = judged(asked)
    assert isinstance(refusal, Refusal)
    return refusal.status, json.loads(refusal.body)["description"]


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        (head(b"GET /chat HTTP/1.1", b"Accept: */*"), 426, "This is a WebSocket topic"),
        (request(line=b"GET /chat HTTP/1.0"), 505, "proxy_http_version 1.1;"),
        (request(without="Connection"), 426, "`Connection: Upgrade` is missing: a proxy in front"),
        (request(without="Upgrade"), 426, "`Upgrade: websocket` is missing: a proxy in front"),
        (request(without="Sec-WebSocket-Version"), 426, "`Sec-WebSocket-Version` is missing"),
        (
            request(VERSION + b"8", without="Sec-WebSocket-Version"),
            426,
            "`Sec-WebSocket-Version` is not 13",
        ),
        (request(without="Sec-WebSocket-Key"), 400, "No Sec-WebSocket-Key"),
        (request(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "More than one"),
        (request(b"Sec-WebSocket-Protocol: chat, chat"), 400, "offers one subprotocol twice"),
        (request(b'Sec-WebSocket-Protocol: "chat"'), 400, "a name without blanks, quotes"),
        (request(b"Sec-WebSocket-Extensions: a b"), 400, "write names with parameters"),
    ],
)
def test_each_cause_has_words_of_its_own(asked: bytes, status: int, words: str) -> None:
    found, description = described(asked)
    assert found == status
    assert words in description


def test_nothing_was_offered_so_nothing_can_be_chosen() -> None:
    plain = Upgrade(KEY, (), ())
    for said in (answer((PROTOCOL, b"a")), answer(chosen(b"permessage-deflate"))):
        with pytest.raises(Refusal):
            check_response(plain, said)


@given(st.text("abcdefgh+/=", min_size=24, max_size=24))
def test_the_accept_key_is_the_rfcs(key: str) -> None:
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    digest = hashlib.new("sha1", (key + guid).encode(), usedforsecurity=False).digest()
    assert accept_key(key.encode()) == base64.b64encode(digest)


# --- headers to the client ------------------------------------------------------------------


def test_the_clients_101() -> None:
    said = answer(
        (b"set-cookie", b"a=1"),
        (b"content-length", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"set-cookie", b"b=2"),
        (b"server", b"backend"),
        (b"keep-alive", b"timeout=5"),
        (b"x-envoy-upstream-service-time", b"7"),
        (b"connection", b"x-hop, sec-websocket-accept"),
        (b"x-hop", b"1"),
    )
    assert client_response(said) == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: " + PROOF[1] + b"\r\n"
        b"set-cookie: a=1\r\nset-cookie: b=2\r\nserver: backend\r\n\r\n"
    )


def test_the_headers_of_a_refusal() -> None:
    said = BackendResponse(
        401,
        b"No",
        (
            (b"content-type", b"text/plain"),
            (b"www-authenticate", b"Basic"),
            (b"content-length", b"5"),
            (b"connection", b"close, x-hop"),
            (b"x-hop", b"1"),
            (b"x-envoy-overloaded", b"true"),
        ),
    )
    assert end_to_end(said) == [(b"content-type", b"text/plain"), (b"www-authenticate", b"Basic")]


values = st.binary(max_size=20) | st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n ", b"\x00", b"a", b": ", b"\r\n\r\n", b"Set-Cookie: x"]),
    max_size=5,
).map(b"".join)


@given(st.lists(st.tuples(st.sampled_from([b"X-A", b"Set-Cookie"]), values), max_size=4))
@settings(max_examples=examples(500))
def test_no_backend_can_inject_a_header(fields: list[tuple[bytes, bytes]]) -> None:
    """Whatever octets a backend sends: the client reads the headers that the gateway read."""
    wire = b"HTTP/1.1 101 Switching Protocols\r\n" + b"".join(
        b"%s: %s\r\n" % field for field in (*JOINED, *fields)
    )
    reader = ResponseReader()
    reader.request("/", [(b"host", b"x"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")])
    try:
        found = reader.feed(wire + b"\r\n")
    except Refusal:
        return
    if found is None or found.status != 101:
        return
    made = client_response(found)
    assert made.count(b"\r\n\r\n") == 1
    assert made.endswith(b"\r\n\r\n")
    lines = made[:-4].split(b"\r\n")
    assert not any(
        {b"\r", b"\n", b"\x00"} & {line[i : i + 1] for i in range(len(line))} for line in lines
    )
    assert lines[3:] == [name + b": " + value for name, value in end_to_end(found)]


def test_the_host_of_these_tests_is_good() -> None:
    assert accepted(head(b"GET /chat HTTP/1.1", *UPGRADE, host=HOST)).key == KEY
