"""Messages of the binary data bridge, and its replies, cut at every byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import databridge as receiver
from trio_gw.wire import databridge
from trio_gw.wire.databridge import BridgeProtocolError, BridgeReply, ReplyDecoder
from trio_gw.wire.throttle_event import ATTRIBUTES, STREAM, FrameTemplate, ThrottleSubject

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SUBJECT = ThrottleSubject(
    *("request-1", "2:alice@carbon.super", "Unlimited", "/ws/1.0.0:1.0.0", "Unlimited"),
    *("2:/ws/1.0.0:1.0.0", "AsyncGold", "/ws/1.0.0:1.0.0", "Unlimited", "alice@carbon.super"),
    *("/ws/1.0.0", "1.0.0", "carbon.super", "carbon.super", "2", "WebSocket"),
)


@given(TEXT, TEXT)
def test_a_login_counts_bytes(user: str, password: str) -> None:
    message = databridge.login(user, password)
    assert message[0] == 0
    assert receiver.integer(message, 1) == len(message) - 5
    assert receiver.decode_login(message[5:]) == (user, password)


@given(st.binary(max_size=40))
def test_a_logout_names_the_session(session: bytes) -> None:
    message = databridge.logout(session)
    assert (
        message
        == b"\x01"
        + (4 + len(session)).to_bytes(4, "big")
        + len(session).to_bytes(4, "big")
        + session
    )


@given(
    st.lists(st.integers(0, 1 << 62), max_size=20),
    st.lists(TEXT, min_size=16, max_size=16),
    st.text("0123456789abcdef", min_size=1, max_size=36),
)
def test_a_batch_is_decoded_as_it_was_encoded(
    sizes: list[int], texts: list[str], session: str
) -> None:
    template = FrameTemplate(ThrottleSubject(*texts), "10.0.0.7")
    events = [template.encode(1_700_000_000_000 + at, size) for at, size in enumerate(sizes)]
    message = databridge.publish(session.encode(), events)
    assert message[0] == 2
    assert receiver.integer(message, 1) == len(message) - 5
    found, decoded = receiver.decode_batch(message[5:])
    assert found == session
    assert len(decoded) == len(sizes)
    for at, (size, event) in enumerate(zip(sizes, decoded, strict=True)):
        assert [event[name] for name in ATTRIBUTES[:-1]] == texts
        assert event["stream"] == STREAM
        assert event["timestamp"] == str(1_700_000_000_000 + at)
        said = json.loads(event["properties"])
        assert said == {"ip": 0x0A000007, "ipv6": 0, "messageSize": size}


def test_the_fields_are_those_of_the_reference() -> None:
    assert ATTRIBUTES == receiver.FIELDS


def properties(address: str, claims: dict[str, object] | None = None) -> dict[str, object]:
    event = receiver.decode_event(FrameTemplate(SUBJECT, address, claims).encode(1, 5)[4:])
    found = json.loads(event["properties"])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("address", "ip", "ipv6"),
    [
        ("127.0.0.1", 0x7F000001, 0),
        ("2001:db8::1", 0, 0x20010DB8000000000000000000000001),
        ("::ffff:127.0.0.1", 0x7F000001, 0),
        ("fe80::1%eth0", 0, 0xFE800000000000000000000000000001),
        ("not an address", 0, 0),
    ],
)
def test_an_address_is_a_number(address: str, ip: int, ipv6: int) -> None:
    assert properties(address) == {"ip": ip, "ipv6": ipv6, "messageSize": 5}


def test_claims_are_properties_and_change_no_other() -> None:
    claims: dict[str, object] = {"role": 'a "b"', "n": 7, "ip": "1.2.3.4", "messageSize": 1}
    found = properties("10.0.0.1", claims)
    assert found == {"ip": 0x0A000001, "ipv6": 0, "messageSize": 5, "role": 'a "b"', "n": "7"}


def test_too_many_claims_are_left_out() -> None:
    assert properties("10.0.0.1", {"big": "x" * 5000}) == {
        "ip": 0x0A000001,
        "ipv6": 0,
        "messageSize": 5,
    }


REPLIES = {
    b"\x00": BridgeReply(),
    b"\x02\x00\x00\x00\x03abc": BridgeReply(b"abc"),
    receiver.error(receiver.TIMEOUT, "gone"): BridgeReply(b"", receiver.TIMEOUT, "gone"),
    receiver.error("", ""): BridgeReply(b"", "an error without a class"),
    receiver.error("E", "\u00fc"): BridgeReply(b"", "E", "\u00fc"),
    b"\x01\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff": BridgeReply(b"", "\ufffd", "\ufffd"),
}


@pytest.mark.parametrize("data", REPLIES)
def test_replies_are_decoded_at_every_cut(data: bytes) -> None:
    for cut in range(len(data)):
        decoder = ReplyDecoder()
        assert decoder.feed(data[:cut]) is None
        assert decoder.feed(data[cut:]) == REPLIES[data]
        assert decoder.feed(b"\x00") == BridgeReply()


def test_only_a_session_timeout_asks_for_a_new_login() -> None:
    assert [reply.session_ended for reply in REPLIES.values()] == [
        *(False, False, True, False, False, False)
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\x03",
        b"\xff",
        b"\x00\x00",
        b"\x02\x00\x00\x00\x00",
        b"\x02\xff\xff\xff\xff",
        b"\x02\x00\x01\x00\x00",
        b"\x02\x7f\xff\xff\xff",
        b"\x01\x7f\xff\xff\xff",
        b"\x01\x00\x00\x00\x01\x80\x00\x00\x00",
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_hostile_replies_are_refused(data: bytes) -> None:
    with pytest.raises(BridgeProtocolError):
        ReplyDecoder().feed(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_refused_or_incomplete(data: bytes) -> None:
    decoder = ReplyDecoder()
    try:
        reply = decoder.feed(data)
    except BridgeProtocolError:
        return
    assert reply is None or isinstance(reply, BridgeReply)
