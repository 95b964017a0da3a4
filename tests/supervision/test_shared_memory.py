"""Integers shared by processes: each writes its own, everyone reads all."""

from __future__ import annotations

import os

import pytest

from trio_gw.supervision.shared_memory import Counters, Slot

WIDTH = len(Slot)


def test_all_zero_at_first() -> None:
    counters = Counters(3, WIDTH + 1)
    assert [counters.row(slot) for slot in range(WIDTH + 1)] == [[0, 0, 0]] * (WIDTH + 1)
    assert len(counters.column(2)) == WIDTH + 1


def test_a_column_is_one_process_and_a_row_one_slot() -> None:
    counters = Counters(3)
    for process in range(3):
        counters.column(process)[Slot.OPEN] = 10 + process
        counters.column(process)[Slot.ACCEPTED] = -process
    assert counters.row(Slot.OPEN) == [10, 11, 12]
    assert counters.row(Slot.ACCEPTED) == [0, -1, -2]
    assert counters.row(Slot.STATE) == [0, 0, 0]
    counters.clear(1)
    assert counters.row(Slot.OPEN) == [10, 0, 12]


def test_64_bits() -> None:
    counters = Counters(2)
    counters.column(1)[Slot.TABLE] = (1 << 63) - 1
    assert counters.row(Slot.TABLE) == [0, (1 << 63) - 1]


@pytest.mark.parametrize(("process", "slot"), [(2, 0), (-3, 0), (0, WIDTH), (0, -WIDTH - 1)])
def test_nothing_beyond_its_bounds(process: int, slot: int) -> None:
    counters = Counters(2)
    with pytest.raises(IndexError):
        counters.column(process)[0 if slot == 0 else range(WIDTH)[slot]] = 1
    assert [counters.row(each) for each in Slot] == [[0, 0]] * WIDTH


def test_what_another_process_writes_is_seen() -> None:
    counters = Counters(2)
    column = counters.column(1)
    if (pid := os.fork()) == 0:
        column[Slot.ACCEPTED] = 12345
        os._exit(0)
    os.waitpid(pid, 0)
    assert counters.row(Slot.ACCEPTED) == [0, 12345]
