"""Messages from frames: the same ones however the bytes are cut, and limits that hold exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.conversation import KEY, close, cuts, frame, text
from trio_gw.relay.assembly import MAX_FRAGMENTS, Assembly, Message
from trio_gw.relay.lane import Lane
from trio_gw.wire.frames import BINARY, CONTINUATION, PING, PONG, TEXT, ViolationError

if TYPE_CHECKING:
    from collections.abc import Iterable


def taken(chunks: Iterable[bytes], *, masked: bool, limit: int = 1000) -> list[tuple[str, bytes]]:
    """Feed chunks; returns control frames and messages, in order."""
    assembly = Assembly(masked=masked, limit=limit)
    found: list[tuple[str, bytes]] = []
    for chunk in chunks:
        for part in assembly.feed(chunk):
            if isinstance(part, Message):
                found.append(("text" if part.text else "binary", part.payload))
            else:
                found.append(("control", part))
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
        frame(CONTINUATION, b" and ended", key=key),
        frame(BINARY, b"", key=key),
        close(1000, b"bye", key=key),
    ]
    whole = b"".join(frames)
    expected = [
        ("text", b"one"),
        ("control", frames[1]),
        ("binary", b"x" * 200),
        ("control", frames[4]),
        ("text", b"begun and ended"),
        ("binary", b""),
        ("control", frames[8]),
    ]
    for chunks in cuts(whole):
        lane = Lane(masked=key is not None)
        passed = [bytes(lane.feed(chunk)) for chunk in chunks]
        assert taken(passed, masked=key is not None) == expected


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_the_limit_holds_exactly(size: int) -> None:
    whole = frame(BINARY, bytes(size), key=KEY)
    assert taken([whole], masked=True, limit=size) == [("binary", bytes(size))]
    if size:
        with pytest.raises(ViolationError, match=f"more than {size - 1} bytes") as refused:
            taken([whole[:14]], masked=True, limit=size - 1)
        assert refused.value.code == 1009


def test_the_limit_is_for_the_message() -> None:
    first, rest = frame(TEXT, b"x" * 6, fin=False), frame(CONTINUATION, b"x" * 5)
    assert [kind for kind, _ in taken([first, rest] * 3, masked=False, limit=11)] == ["text"] * 3
    assembly = Assembly(masked=False, limit=10)
    assert list(assembly.feed(first)) == []
    with pytest.raises(ViolationError, match="more than 10 bytes"):
        list(assembly.feed(rest[:2]))


def test_empty_fragments_count() -> None:
    most = frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * (MAX_FRAGMENTS - 2)
    end = frame(CONTINUATION)
    assert len(taken([(most + end) * 2], masked=False)) == 2
    with pytest.raises(ViolationError, match="more than 4096 fragments") as refused:
        taken([most + frame(CONTINUATION, fin=False) + end], masked=False)
    assert refused.value.code == 1009
