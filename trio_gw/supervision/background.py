"""Background tasks of a process. A task that fails is started again.

Some tasks belong to no connection, for example a source of projects. When such a task fails, the
process goes on: connections are relayed, and what was loaded last is served. `BackgroundTasks`
runs these tasks. An exception that a task raises is a bug. It is logged, counted and shown, and the
task is started again after a pause that doubles. State that must survive a restart belongs to the
object of the task. Cancellation, KeyboardInterrupt and SystemExit pass through.
"""

from __future__ import annotations

import enum
import logging
import traceback
from typing import TYPE_CHECKING, Any

import trio

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

log = logging.getLogger("trio_gw.supervision.background")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a failed task is started again
SHORT = 1.0  # seconds, the longest pause of tasks that connections depend on
TRIES = 3  # after so many failures the start of the gateway no longer waits for the task
SETTLED = 10.0  # seconds without a failure after which a restarted task counts as working
LENGTH = 200  # characters of an exception's text in a log line


class TaskName(enum.Enum):
    """The background tasks of a gateway. The value is the name in logs and metrics."""

    ACCEPT = "accept"
    ACKNOWLEDGEMENTS = "acknowledgements"
    ANALYTICS = "analytics"
    APIS = "apis"
    APPLICATIONS = "applications"
    BLOCKED_APIS = "blocked_apis"
    CLIENT_TRUST = "client_trust"
    CONTROL_PLANE = "control_plane"
    CONTROL_PLANE_CACHE = "control_plane_cache"
    CONTROL_PLANE_EVENTS = "control_plane_events"
    CONTROL_PLANE_EXPIRY = "control_plane_expiry"
    CONTROL_PLANE_WRITER = "control_plane_writer"
    DEADLINES = "deadlines"
    DECISIONS = "throttling_decisions"
    DENIALS = "denials"
    DEPLOYED = "deployed"
    ENTITLED = "entitled_sessions"
    EVICTIONS = "evictions"
    FILES = "files"
    FRAME_EVENTS = "throttling_events"
    GIT = "git"
    GIT_REMOTE = "git_remote"
    HEALTH = "health_checks"
    INTROSPECTION = "introspection"
    KEYS = "signing_keys"
    MEMORY = "memory"
    METRICS = "metrics"
    RPC = "rpc"
    RELAY = "relay"
    REPORTS = "analytics_reports"
    REVOCATIONS = "revocations"
    SETTINGS = "settings"
    SWEEPER = "timeouts"
    TABLE = "route_table"
    TABLE_DIGEST = "table_digest"


_BITS = {task: 1 << index for index, task in enumerate(TaskName)}


def task_names(mask: int) -> list[str]:
    """Return the names of the tasks in a mask of `on_change`."""
    return [task.value for task, bit in _BITS.items() if mask & bit]


class BackgroundTasks:
    """The background tasks of one process.

    `on_failure(name)` is called for each failure. `on_change(mask)` is called when the set of
    failing tasks changes. The mask has one bit for each task (`task_names`); other processes read
    it.
    """

    def __init__(self) -> None:
        self.on_failure: Callable[[TaskName], None] = lambda name: None
        self.on_change: Callable[[int], None] = lambda mask: None
        self._failing: dict[TaskName, str] = {}

    @property
    def failing(self) -> dict[TaskName, str]:
        """Return the tasks that fail now, and the type of the exception."""
        return dict(self._failing)

    def problems(self) -> tuple[Problem, ...]:
        """Return a problem for each task that fails now, for the operators of the gateway."""
        return tuple(
            Problem(
                "gateway",
                0,
                0,
                f"the background task `{name.value}` fails ({kind}); it is restarted until it"
                " works, and its last result stays in effect",
                "report it, with the log at level debug",
            )
            for name, kind in self._failing.items()
        )

    async def keep(
        self, name: TaskName, task: Callable[[], Awaitable[None]], *, longest: float = LONGEST_PAUSE
    ) -> None:
        """Run a task to its end. While it fails, restart it; pauses grow to `longest`."""
        await self._keep(name, task, longest=longest)

    async def start(
        self,
        name: TaskName,
        task: Callable[..., Awaitable[Any]],
        *,
        on_give_up: Callable[[], None] = lambda: None,
        longest: float = LONGEST_PAUSE,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Like `keep`, for a task that reports by its `task_status` that it has started.

        For `nursery.start`: reports that it has started when the task has started. If the task
        fails `TRIES` times before that, calls `on_give_up` and reports that it has started.
        """
        waiting = True

        def started() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                task_status.started()

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(task)
                started()

        def give_up() -> None:
            if waiting:
                on_give_up()
                started()

        await self._keep(name, run, give_up, longest=longest)

    def record_failure(self, name: TaskName, error: BaseException, then: str = "") -> None:
        """Log, count and show a failure of a task. `then` says what is done about it."""
        inner: BaseException = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        kind = type(inner).__name__
        text = " ".join(str(inner).split())[:LENGTH]
        what = f"{kind}: {text}" if text else kind
        log.error("%s failed: %s%s%s", name.value, what, _place(inner), then)
        log.debug("%s failed", name.value, exc_info=error)
        before = self._failing.get(name)
        self._failing[name] = kind
        self.on_failure(name)
        if before is None:
            self._notify()

    def record_recovery(self, name: TaskName) -> None:
        """Show that a task works again."""
        if self._failing.pop(name, None) is not None:
            log.info("%s works again", name.value)
            self._notify()

    def _notify(self) -> None:
        self.on_change(sum(_BITS[name] for name in self._failing))

    async def _keep(
        self,
        name: TaskName,
        task: Callable[[], Awaitable[None]],
        give_up: Callable[[], None] = lambda: None,
        *,
        longest: float,
    ) -> None:
        pause, failures = FIRST_PAUSE, 0
        again = False
        while True:
            began = trio.current_time()
            failed = False
            try:
                async with trio.open_nursery() as nursery:
                    if again:
                        nursery.start_soon(self._settle, name)
                    await task()
                    nursery.cancel_scope.cancel()
            except* Exception as bugs:
                failed = True
                if trio.current_time() - began >= max(SETTLED, pause):
                    pause = FIRST_PAUSE
                self.record_failure(name, bugs, f"; starting it again in {pause:.1f} s")
            if not failed:
                self.record_recovery(name)
                return
            failures += 1
            if failures >= TRIES:
                give_up()
            await trio.sleep(pause)
            pause, again = min(pause * 2, longest), True

    async def _settle(self, name: TaskName) -> None:
        await trio.sleep(SETTLED)
        self.record_recovery(name)


def _place(error: BaseException) -> str:
    """Return the line that raised the exception."""
    frames: Iterable[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__, limit=-1)
    return "".join(f" ({frame.filename}:{frame.lineno})" for frame in frames)
