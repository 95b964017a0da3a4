"""Rows of frames that look alike: what is said of them at a glance is what is said one by one."""

from __future__ import annotations

import pytest

from support.conversation import KEY, close, frame
from trio_gw.relay import runs
from trio_gw.relay.lane import Lane
from trio_gw.wire.frames import BINARY, CONTINUATION, PING, TEXT

ROW = 9


def account(lane: Lane, passed: bytes) -> tuple[object, ...]:
    """All that a lane tells."""
    violation = lane.violation and lane.violation.what
    counted = lane.frames, lane.messages, lane.octets, lane.extra, lane.payload
    return passed, counted, lane.held, lane.over, lane.finished, lane.close, violation


def one_by_one(stream: bytes, *, masked: bool) -> tuple[object, ...]:
    """Feed octets, of which no row can be seen."""
    lane = Lane(masked=masked)
    passed = b"".join(bytes(lane.feed(stream[at : at + 1])) for at in range(len(stream)))
    return account(lane, passed)


def at_a_glance(stream: bytes, *, masked: bool) -> tuple[object, ...]:
    lane = Lane(masked=masked)
    return account(lane, bytes(lane.feed(stream)))


def strangers(key: bytes | None, size: int) -> dict[str, bytes]:
    """Frames that are unlike those of a row, valid and not, some of them as long."""
    other = None if key else KEY
    return {
        "a ping": frame(PING, b"p", key=key),
        "a ping as long": frame(PING, bytes(min(size, 125)), key=key),
        "another opcode": frame(BINARY, bytes(size), key=key),
        "another size": frame(TEXT, bytes(size + 1), key=key),
        "much longer": frame(TEXT, bytes(70_000), key=key),
        "the beginning of a message": frame(TEXT, bytes(size), fin=False, key=key),
        "a fragmented message": frame(TEXT, bytes(size), fin=False, key=key)
        + frame(CONTINUATION, bytes(size), fin=False, key=key) * 3
        + frame(CONTINUATION, bytes(size), key=key),
        "continuations of nothing": frame(TEXT, bytes(size), fin=False, key=key)
        + frame(CONTINUATION, bytes(size), key=key) * ROW,
        "a reserved bit": frame(TEXT, bytes(size), rsv=0x20, key=key),
        "the wrong mask": frame(TEXT, bytes(size), key=other),
        "not the shortest form": frame(TEXT, bytes(min(size, 125)), key=key, length=126),
        "a Close": close(1000, b"done", key=key),
    }


@pytest.mark.parametrize("name", strangers(None, 0))
@pytest.mark.parametrize("size", [0, 5, 125, 126, 300])
@pytest.mark.parametrize("masked", [True, False], ids=["publish", "subscribe"])
def test_a_stranger_anywhere_in_a_row(masked: bool, size: int, name: str) -> None:
    key = KEY if masked else None
    like, stranger = frame(TEXT, bytes(size), key=key), strangers(key, size)[name]
    for place in range(ROW + 1):
        stream = like * place + stranger + like * (ROW - place)
        assert at_a_glance(stream, masked=masked) == one_by_one(stream, masked=masked)


@pytest.mark.parametrize("size", [0, 5, 126])
@pytest.mark.parametrize("masked", [True, False], ids=["publish", "subscribe"])
def test_a_row_cut_off_anywhere(masked: bool, size: int) -> None:
    """The last frame lacks part of its header or of its payload; what is missing comes later."""
    stream = frame(TEXT, bytes(size), key=KEY if masked else None) * 6
    for cut in range(len(stream)):
        head, tail = stream[:cut], stream[cut:]
        assert at_a_glance(head, masked=masked) == one_by_one(head, masked=masked)
        lane = Lane(masked=masked)
        passed = bytes(lane.feed(head)) + bytes(lane.feed(tail))
        assert account(lane, passed) == one_by_one(stream, masked=masked)
        assert lane.messages == 6


def test_whoever_taps_a_lane_is_told_of_every_frame_of_a_row() -> None:
    lane = Lane(masked=True)
    told: list[tuple[int, bool]] = []
    lane.tap = lambda length, last: told.append((length, last))
    lane.feed(frame(TEXT, b"hello", key=KEY) * ROW)
    assert told == [(5, True)] * ROW


def test_a_row_is_as_long_as_it_looks() -> None:
    like, other = frame(TEXT, b"hello", key=KEY), frame(TEXT, b"hell", key=KEY)
    step = len(like)
    for count in range(1, 5):
        stream = like * count
        assert runs.count_alike(stream, 0, len(stream), step, 2) == count
        assert runs.count_alike(stream + other, 0, len(stream) + step - 1, step, 2) == count
        assert runs.count_alike(stream + like[:1], 0, len(stream) + 1, step, 2) == count
        assert runs.count_alike(stream + like[:2], 0, len(stream) + 2, step, 2) == count + 1


def test_rows_that_end_at_once_are_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise pairs of frames could make one chunk cost its square."""
    looked: list[int] = []
    real = runs.count_alike

    def counted(data: bytes, start: int, size: int, step: int, octets: int) -> int:
        looked.append(start)
        return real(data, start, size, step, octets)

    monkeypatch.setattr(runs, "count_alike", counted)
    pairs = frame(TEXT, b"a", key=KEY) * 2 + frame(TEXT, b"bb", key=KEY) * 2
    lane = Lane(masked=True)
    lane.feed(pairs * 100)
    assert lane.messages == 400
    assert len(looked) <= 1  # none where the relay is compiled
