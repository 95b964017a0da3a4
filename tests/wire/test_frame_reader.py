"""Frames read one by one, with their payloads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.wire.frame_reader import FrameReader, WholeFrame
from trio_gw.wire.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, ViolationError, frame

KEEP = 1000
MESSAGES = [
    (TEXT, b"he"),
    (PING | FIN, b"in between"),
    (CONTINUATION, b""),
    (CONTINUATION | FIN, b"llo"),
    (BINARY | FIN, bytes(range(256))),
    (BINARY | FIN, b"x" * 70_000),
    (TEXT | FIN, b""),
    (CLOSE | FIN, b"\x03\xe8done"),
]


@given(sizes=st.lists(st.integers(1, 5000), min_size=1), masked=st.booleans())
def test_frames_are_the_same_however_the_bytes_are_split(sizes: list[int], masked: bool) -> None:
    data = b"".join(frame(first, payload, masked=masked) for first, payload in MESSAGES)
    reader, found, at, turn = FrameReader(masked=masked, keep=KEEP), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += list(reader.feed(data[at : at + size]))
        at, turn = at + size, turn + 1
    assert found == [WholeFrame(first, len(part), part[:KEEP]) for first, part in MESSAGES]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x81\x00", "not masked"),
        (b"\xc1\x80", "reserved bit"),
        (b"\x83\x80", "unknown opcode"),
        (b"\x09\x80", "fragmented control"),
        (b"\x89\xfe\x00\x7e\0\0\0\0", "longer than 125"),
        (b"\x80\x80\0\0\0\0", "continuation of no"),
        (b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", "inside a message"),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0", "more than 2000"),
    ],
)
def test_violations(data: bytes, what: str) -> None:
    with pytest.raises(ViolationError, match=what):
        list(FrameReader(masked=True, keep=KEEP, most=2000).feed(data + bytes(4)))


def test_compressed_frames_are_told() -> None:
    (found,) = FrameReader(masked=False, keep=KEEP, rsv=0x40).feed(b"\xc1\x01x")
    assert found.compressed
    assert found.fin
    assert found.opcode == TEXT
