"""Background tasks: what is a failure, and what passes through."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from trio_gw.supervision.background import (
    LONGEST_PAUSE,
    TRIES,
    BackgroundTasks,
    TaskName,
    task_names,
)


class Told:
    """What a `BackgroundTasks` tells of itself."""

    def __init__(self) -> None:
        self.background = BackgroundTasks()
        self.background.on_failure = self.failed
        self.background.on_change = self.changed
        self.times: list[float] = []
        self.masks: list[int] = []

    def failed(self, part: TaskName) -> None:
        assert part is TaskName.APIS
        self.times.append(trio.current_time())

    def changed(self, mask: int) -> None:
        self.masks.append(mask)


@pytest.fixture
def told() -> Told:
    return Told()


async def test_pauses_double_and_begin_anew(told: Told, autojump_clock: object) -> None:
    lives = [0.0] * 12 + [100.0, 0.0]

    async def task() -> None:
        if lives:
            await trio.sleep(lives.pop(0))
            raise ValueError("some text\nof two lines")

    await told.background.keep(TaskName.APIS, task)
    pauses = [after - before for before, after in zip(told.times, told.times[1:], strict=False)]
    assert pauses[:9] == pytest.approx([0.1 * 2**number for number in range(9)])
    assert pauses[9:11] == pytest.approx([LONGEST_PAUSE] * 2)
    assert pauses[11] == pytest.approx(LONGEST_PAUSE + 100)
    assert pauses[12] == pytest.approx(0.1)
    # It works while it lives for a hundred seconds, and when it has come to its end.
    assert [task_names(mask) for mask in told.masks] == [["apis"], [], ["apis"], []]
    assert told.background.problems() == ()


@pytest.mark.parametrize(("fails", "lost"), [(TRIES - 1, 0), (TRIES, 1)])
async def test_started_late_or_given_up(
    told: Told, autojump_clock: object, fails: int, lost: int
) -> None:
    left = fails
    calls: list[str] = []

    async def task(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RecursionError
        task_status.started()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        start = partial(
            told.background.start, TaskName.APIS, task, on_give_up=lambda: calls.append("lost")
        )
        await nursery.start(start)
        assert len(calls) == lost
        assert told.background.failing == {TaskName.APIS: "RecursionError"}
        nursery.cancel_scope.cancel()


async def test_cancelled_while_it_fails(told: Told) -> None:
    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            await trio.sleep_forever()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told.background.keep, TaskName.APIS, both)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert len(told.times) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_end_that_is_wanted_passes(told: Told, kind: type[BaseException]) -> None:
    async def task() -> None:
        await trio.lowlevel.checkpoint()
        raise kind

    with pytest.raises(BaseExceptionGroup) as caught:
        await told.background.keep(TaskName.APIS, task)
    assert caught.group_contains(kind)
    assert told.times == []
