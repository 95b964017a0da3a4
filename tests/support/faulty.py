"""Background parts that fail where they are told to: at their beginning, and as they go on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import trio

from trio_gw.supervision.background import BackgroundTasks, TaskName

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Generator


class BugError(Exception):
    """What no part expects."""


class Interrupted:
    """A coroutine that is thrown an exception when it goes on for the `count`th time.

    At 0 it does not even begin. What it waited for has happened by then, so that nobody will wake
    it for that once more.
    """

    def __init__(self, work: Awaitable[Any], count: int) -> None:
        self._work = work
        self._count = count
        self._thrown = count == 0

    def __await__(self) -> Generator[Any, Any, Any]:
        """Drive it."""
        steps = self._work.__await__()
        value: Any = None
        error: BaseException | None = None if self._count else BugError("at its beginning")
        resumed = 0
        while True:
            try:
                trap = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            value = error = None
            try:
                value = yield trap
            except BaseException as caught:  # cancellation, most of all
                error = caught
            else:
                shielded = getattr(trap, "__name__", "") == "CancelShieldedCheckpoint"
                resumed += not (shielded or _must_not_raise(self._work))
                if resumed == self._count and not self._thrown:
                    self._thrown = True
                    error = BugError(f"when it went on for time {resumed}")


# Trio relies on it that they do not raise once they have been woken, or forgets what it took.
_SAFE = frozenset(
    (
        *("_nested_child_finished", "open_process", "wait_child_exiting"),
        *("acquire", "acquire_on_behalf_of"),
    )
)


def _must_not_raise(work: Any) -> bool:
    """Tell whether it waits within a part of Trio that must not raise."""
    while work is not None:
        code = getattr(work, "cr_code", None) or getattr(work, "gi_code", None)
        if code is not None and (code.co_name in _SAFE or code.co_qualname == "Git.run"):
            return True
        work = getattr(work, "cr_await", None) or getattr(work, "gi_yieldfrom", None)
    return False


class Faulty(BackgroundTasks):
    """Lets the `parts` fail: in their run number n at the nth time they go on, `times` times."""

    def __init__(self, parts: Container[TaskName], times: float) -> None:
        super().__init__()
        self.counts: Counter[TaskName] = Counter()
        self.shown: set[str] = set()
        self._parts = parts
        self._times = times
        self._runs: Counter[TaskName] = Counter()
        self._came = trio.Event()

    def record_failure(self, name: TaskName, error: BaseException, then: str = "") -> None:
        """Count."""
        super().record_failure(name, error, then)
        self.counts[name] += 1
        came, self._came = self._came, trio.Event()
        came.set()

    def record_recovery(self, name: TaskName) -> None:
        """Count."""
        super().record_recovery(name)
        came, self._came = self._came, trio.Event()
        came.set()

    async def reached(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; looked at whenever a task has failed or works again."""
        with trio.fail_after(60):
            while not condition():
                await self._came.wait()

    async def keep(
        self, name: TaskName, task: Callable[[], Awaitable[None]], **options: Any
    ) -> None:
        """Run the task with its faults."""

        async def run() -> None:
            await self._interrupted(name, task())

        await super().keep(name, run, **options)

    async def start(
        self, name: TaskName, task: Callable[..., Awaitable[Any]], **options: Any
    ) -> None:
        """Run the task with its faults."""

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            await self._interrupted(name, task(task_status=task_status))

        await super().start(name, run, **options)

    async def _interrupted(self, name: TaskName, work: Awaitable[None]) -> None:
        run = self._runs[name]
        self._runs[name] += 1
        if name in self._parts and run < self._times:
            await Interrupted(work, run)
        else:
            await work
