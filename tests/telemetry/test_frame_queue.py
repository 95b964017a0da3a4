"""Frames that wait to be reported: bounded, fair, without those that a limit refused."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.telemetry.frame_queue import FrameQueue

pytestmark = pytest.mark.both_forms


class Plain:
    """Encodes an event as its name and size."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, timestamp: int, size: int) -> bytes:
        return f"{self.name} {size}".encode()


def test_frames_are_taken_in_order_and_once() -> None:
    queue = FrameQueue()
    frames = queue.direction(Plain("a"))
    for size in range(5):
        frames.passed(size, True)
    assert queue.take(3, 0) == [b"a 0", b"a 1", b"a 2"]
    assert queue.take(3, 0) == [b"a 3", b"a 4"]
    assert queue.take(3, 0) == []
    assert queue.waiting == queue.dropped == 0


def test_a_busy_connection_does_not_delay_the_others() -> None:
    queue = FrameQueue()
    busy, quiet = queue.direction(Plain("busy")), queue.direction(Plain("quiet"))
    for _ in range(1000):
        busy.passed(1, True)
    quiet.passed(2, True)
    assert b"quiet 2" in queue.take(200, 0)


def test_a_full_queue_drops_and_counts() -> None:
    queue = FrameQueue(3)
    frames = queue.direction(Plain("a"))
    for size in range(5):
        frames.passed(size, True)
    assert (queue.waiting, queue.dropped) == (3, 2)
    frames.refused(4)
    frames.refused(3)
    assert (queue.waiting, queue.dropped) == (3, 0)
    assert len(queue.take(10, 0)) == 3
    frames.passed(7, True)
    assert queue.take(10, 0) == [b"a 7"]


# Sizes of one chunk, each with whether its frame is refused; then perhaps a look at the queue.
CHUNKS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8),
        st.integers(0, 5),
    ),
    max_size=20,
)


@given(CHUNKS)
def test_refused_frames_are_not_reported(chunks: list[tuple[list[tuple[int, bool]], int]]) -> None:
    queue = FrameQueue()
    frames = queue.direction(Plain("a"))
    expected: Counter[bytes] = Counter()
    found: Counter[bytes] = Counter()
    for chunk, most in chunks:
        for size, _ in chunk:
            frames.passed(size, True)
        for size, refused in chunk:
            if refused:
                frames.refused(size)
            else:
                expected[b"a %d" % size] += 1
        found.update(queue.take(most, 0))
        assert queue.waiting == expected.total() - found.total()
    found.update(queue.take(1000, 0))
    assert found == expected
    assert queue.waiting == queue.dropped == 0


def test_a_flood_of_refused_frames_keeps_no_memory() -> None:
    queue = FrameQueue()
    frames = queue.direction(Plain("a"))
    for _ in range(1000):
        for size in range(64):
            frames.passed(size, True)
        for size in range(64):
            frames.refused(size)
    assert frames.sizes == []
    assert queue.waiting == 0
