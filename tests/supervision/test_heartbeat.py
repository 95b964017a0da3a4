"""The heartbeat of an event loop, by a clock that the test sets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio
import trio.testing

from trio_gw.supervision import heartbeat
from trio_gw.supervision.heartbeat import BLOCKED, INTERVAL

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock


async def test_once_a_second(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    beats: list[float] = []
    with trio.move_on_after(10.5 * INTERVAL):
        await heartbeat.run(lambda: beats.append(trio.current_time()))
    assert [round(beat - beats[0]) for beat in beats] == list(range(11))
    assert not caplog.records


async def test_a_loop_that_did_not_run_is_told_of(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture, nursery: trio.Nursery
) -> None:
    caplog.set_level(logging.WARNING)
    beats: list[None] = []
    nursery.start_soon(heartbeat.run, lambda: beats.append(None))
    await trio.testing.wait_all_tasks_blocked()
    for late in (BLOCKED, BLOCKED + 2.5):
        mock_clock.jump(INTERVAL + late)
        await trio.testing.wait_all_tasks_blocked()
    assert len(beats) == 3
    (record,) = caplog.records
    assert record.getMessage().startswith("the event loop did not run for 3.5 s, 0.")
