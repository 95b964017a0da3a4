"""When a process counts as hung: by a clock that the test sets."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from trio_gw.supervision.shared_memory import Counters, Slot
from trio_gw.supervision.watchdog import MISSED, Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30.0


class Watch:
    """A watchdog of two processes, both of which are this one, and its clock."""

    def __init__(self, timeout: float) -> None:
        self.counters = Counters(2)
        self.dog = Watchdog(self.counters, timeout)
        self.now = 1000.0
        self.dog.begin(self.now)
        for index in range(2):
            self.dog.started(index, os.getpid())

    def passes(self, seconds: int, *beating: int, step: float = 1.0) -> list[int]:
        """Let seconds pass while only some have a heartbeat; returns who is to be killed."""
        killed = []
        for _ in range(seconds):
            for index in beating:
                self.counters.column(index)[Slot.BEATS] += 1
            self.now += step
            killed += self.dog.check(self.now)
        return killed

    @property
    def silent(self) -> list[int]:
        return self.counters.row(Slot.SILENT)


@pytest.fixture
def watch() -> Iterator[Watch]:
    before = signal.getsignal(signal.SIGRTMIN + 7)
    made = Watch(TIMEOUT)
    yield made
    made.dog.close()
    signal.signal(signal.SIGRTMIN + 7, before)


def test_who_has_a_heartbeat_is_left_alone(watch: Watch) -> None:
    assert watch.passes(1000, 0, 1) == []
    assert watch.silent == [0, 0]


def test_who_misses_it_is_shown_and_then_killed_once(watch: Watch) -> None:
    assert watch.passes(int(MISSED) - 1, 0) == []
    assert watch.silent == [0, 0]
    assert watch.passes(1, 0) == []
    assert watch.silent == [0, MISSED]
    assert watch.passes(int(TIMEOUT - MISSED) - 1, 0) == []
    assert watch.silent == [0, TIMEOUT - 1]
    assert watch.passes(100, 0) == [1]
    assert watch.counters.row(Slot.KILLED) == [0, 1]


def test_who_replaces_it_has_all_the_time_again(watch: Watch) -> None:
    assert watch.passes(int(TIMEOUT), 0) == [1]
    watch.dog.ended(1)
    watch.counters.clear(1)
    assert watch.passes(100, 0) == []
    watch.dog.started(1, os.getpid())
    assert watch.passes(int(TIMEOUT) - 1, 0) == []
    assert watch.passes(1, 0) == [1]


def test_one_beat_is_enough(watch: Watch) -> None:
    for _ in range(10):
        assert watch.passes(int(TIMEOUT) - 1, 0) == []
        assert watch.passes(1, 0, 1) == []
        assert watch.silent == [0, 0]


@pytest.mark.parametrize("pause", [60.0, 1e9, -1e9])
def test_only_time_in_which_the_supervisor_ran_counts(watch: Watch, pause: float) -> None:
    """After a suspend nobody has had the time for a heartbeat yet."""
    assert watch.passes(1, 0, 1) == []
    assert watch.passes(1, step=pause) == []
    assert watch.silent == [0, 0]
    assert watch.passes(1) == []
    assert watch.passes(1, 0, 1) == []
    assert watch.silent == [0, 0]


def test_looks_between_the_seconds_count_what_they_are(watch: Watch) -> None:
    assert watch.passes(290, 0, step=0.1) == []
    assert watch.passes(20, 0, step=0.1) == [1]


def test_without_a_timeout_nobody_is_killed() -> None:
    before = signal.getsignal(signal.SIGRTMIN + 7)
    watch = Watch(0)
    assert watch.passes(10_000, 0) == []
    assert watch.silent == [0, 10_000]
    watch.dog.close()
    signal.signal(signal.SIGRTMIN + 7, before)


def test_what_a_stack_may_take_is_bounded(watch: Watch) -> None:
    for one in watch.dog._watched:
        os.lseek(one.file, 0, os.SEEK_END)
        with pytest.raises(PermissionError):
            os.write(one.file, b"x")
