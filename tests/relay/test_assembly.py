"""Frames taken apart: the same parts however they are cut, and bounds that hold exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.conversation import KEY, close, cuts, frame, split_frames, text
from trio_gw.relay.assembly import MAX_FRAGMENTS, Assembly
from trio_gw.wire.frames import BINARY, CONTINUATION, PING, PONG, TEXT, ViolationError

if TYPE_CHECKING:
    from collections.abc import Iterable


def taken(chunks: Iterable[bytes], *, masked: bool, limit: int = 1000) -> list[tuple[str, bytes]]:
    """Take chunks apart; returns control frames and the frames of each message, in order."""
    assembly = Assembly(masked=masked, limit=limit)
    found: list[tuple[str, bytes]] = []
    message = b""
    for chunk in chunks:
        for part in assembly.feed(chunk):
            if part.control:
                found.append(("control", part.data))
                continue
            message += part.data
            if part.last:
                found.append(("text" if part.text else "binary", message))
                message = b""
    assert message == b""
    return found


@pytest.mark.parametrize("key", [None, KEY], ids=["bare", "masked"])
def test_at_every_cut(key: bytes | None) -> None:
    frames = [
        text(b"one", key=key),
        frame(PING, b"ping", key=key),
        frame(BINARY, b"x" * 200, key=key),
        frame(TEXT, b"begun", fin=False, key=key),
        frame(PONG, b"", key=key),
        frame(CONTINUATION, b"", fin=False, key=key),
        frame(CONTINUATION, b"", key=key),
        frame(BINARY, b"", key=key),
        close(1000, b"bye", key=key),
    ]
    whole = b"".join(frames)
    expected = [
        ("text", b"\x82" + frames[0][1:]),
        ("control", frames[1]),
        ("binary", frames[2]),
        ("control", frames[4]),
        ("text", b"\x02" + frames[3][1:] + frames[5] + frames[6]),
        ("binary", frames[7]),
        ("control", frames[8]),
    ]
    for chunks in cuts(whole):
        # A lane never passes a part of a header or of a Close frame.
        assert taken(fit(chunks, frames), masked=key is not None) == expected


def fit(chunks: tuple[bytes, ...], frames: list[bytes]) -> list[bytes]:
    """Hold back what a lane would hold back."""
    heads = []
    at = 0
    for one in frames:
        size = 2 + (2 if one[1] & 0x7F == 126 else 0) + (4 if one[1] & 0x80 else 0)
        heads.append(range(at + 1, at + (len(one) if one[0] == 0x88 else size)))
        at += len(one)
    fitted, held, at = [], b"", 0
    for chunk in chunks:
        at += len(chunk)
        held += chunk
        if not any(at in head for head in heads):
            fitted.append(held)
            held = b""
    return fitted


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_the_limit_holds_exactly(size: int) -> None:
    whole = frame(BINARY, bytes(size), key=KEY)
    assert taken([whole], masked=True, limit=size) == [("binary", whole)]
    if size:
        with pytest.raises(ViolationError, match=f"more than {size - 1} bytes") as refused:
            taken([whole[:14]], masked=True, limit=size - 1)
        assert refused.value.code == 1009


def test_the_limit_is_for_the_message() -> None:
    first, rest = frame(TEXT, b"x" * 6, fin=False), frame(CONTINUATION, b"x" * 5)
    assert [kind for kind, _ in taken([first, rest] * 3, masked=False, limit=11)] == ["text"] * 3
    assembly = Assembly(masked=False, limit=10)
    assert [part.last for part in assembly.feed(first)] == [False]
    with pytest.raises(ViolationError, match="more than 10 bytes"):
        list(assembly.feed(rest[:2]))


def test_empty_fragments_count() -> None:
    most = frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * (MAX_FRAGMENTS - 2)
    end = frame(CONTINUATION)
    assert len(taken([(most + end) * 2], masked=False)) == 2
    with pytest.raises(ViolationError, match="more than 4096 fragments") as refused:
        taken([most + frame(CONTINUATION, fin=False) + end], masked=False)
    assert refused.value.code == 1009


def test_what_it_gives_are_frames() -> None:
    ((_, data),) = taken([text(b"hello", key=KEY)], masked=True)
    (seen,), rest = split_frames(data)
    assert (seen.opcode, seen.payload, rest) == (BINARY, b"hello", b"")
