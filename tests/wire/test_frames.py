"""Frames that the gateway builds, and Close frames that it reads (RFC 6455 §5.2, §5.5.1, §7.4)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.conversation import split_frames
from trio_gw.errors import CloseCode
from trio_gw.wire import frames
from trio_gw.wire.frames import Close, ViolationError, apply_mask, close_frame, parse_close

# The IANA registry "WebSocket Close Code Number", written out rather than computed.
REGISTERED = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reason", ["", "going away", "\u00fc" * 61, "x" * 123])
@pytest.mark.parametrize("code", [1000, 1001, 1011, 4999])
def test_close_frame_says_what_it_was_given(code: int, reason: str, masked: bool) -> None:
    (said,), rest = split_frames(close_frame(code, reason, masked=masked))
    assert rest == b""
    assert said.first == frames.FIN | frames.CLOSE
    assert said.masked is masked
    assert (said.code, said.reason) == (code, reason)


@pytest.mark.parametrize("masked", [False, True])
def test_no_status_makes_an_empty_close(masked: bool) -> None:
    (said,), _ = split_frames(close_frame(CloseCode.NO_STATUS, "not said", masked=masked))
    assert said.payload == b""
    assert said.masked is masked


@given(st.text(max_size=200))
def test_a_long_reason_is_cut_between_characters(reason: str) -> None:
    (said,), _ = split_frames(close_frame(1008, reason, masked=False))
    assert len(said.payload) <= frames.MAX_CONTROL
    assert reason.startswith(said.reason)
    kept = len(said.reason)
    if kept < len(reason):
        assert len(reason[: kept + 1].encode()) > frames.MAX_REASON


def test_every_masked_close_has_its_own_key() -> None:
    keys = {close_frame(1000, "", masked=True)[2:6] for _ in range(20)}
    assert len(keys) > 1


@given(st.binary(max_size=125), st.binary(min_size=4, max_size=4))
def test_masking_twice_changes_nothing(payload: bytes, key: bytes) -> None:
    assert apply_mask(apply_mask(payload, key), key) == payload


def test_masking_is_the_rfcs() -> None:
    # RFC 6455 §5.7: a single-frame masked text message "Hello".
    assert apply_mask(b"\x7f\x9f\x4d\x51\x58", b"\x37\xfa\x21\x3d") == b"Hello"


def test_every_code() -> None:
    for code in (*range(5002), 65535):
        payload = code.to_bytes(2, "big")
        if code in REGISTERED or 3000 <= code <= 4999:
            assert parse_close(payload) == Close(code, "")
            assert parse_close(payload + b"why") == Close(code, "why")
        else:
            with pytest.raises(ViolationError, match=f" {code} ") as caught:
                parse_close(payload + b"why")
            assert caught.value.code == 1002


def test_an_empty_close_has_no_status() -> None:
    assert parse_close(b"") == Close(1005, "")


def test_half_a_code() -> None:
    with pytest.raises(ViolationError) as caught:
        parse_close(b"\x03")
    assert caught.value.code == 1002


@pytest.mark.parametrize(
    "reason",
    [b"\x80", b"\xc3", b"ok\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82"],
)
def test_a_reason_that_is_not_utf_8(reason: bytes) -> None:
    with pytest.raises(ViolationError) as caught:
        parse_close(b"\x03\xe8" + reason)
    assert caught.value.code == 1007


@given(st.sampled_from(sorted(REGISTERED)), st.text(max_size=41))
def test_what_is_built_is_read_back(code: int, reason: str) -> None:
    frame = close_frame(code, reason, masked=True)
    payload = apply_mask(bytearray(frame[6:]), frame[2:6])
    assert parse_close(payload) == (code, split_frames(frame)[0][0].reason)
    assert len(reason.encode()) > frames.MAX_REASON or parse_close(payload).reason == reason


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 511, 512, 513, 4096, 70_001])
def test_masking_is_the_octet_wise_xor(size: int) -> None:
    payload, key = random.Random(size).randbytes(size), b"\x00\xff\x12\x81"
    expected = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    assert frames.apply_mask(payload, key) == expected
    assert frames.apply_mask(memoryview(expected), key) == payload


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_the_frame_of_a_message(size: int, text: bool, masked: bool) -> None:
    payload = random.Random(size).randbytes(size)
    (seen,), rest = split_frames(frames.data_frame(payload, text=text, masked=masked))
    first = 0x80 | (frames.TEXT if text else frames.BINARY)
    assert (seen.first, seen.payload, seen.masked, rest) == (first, payload, masked, b"")
