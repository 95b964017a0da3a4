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

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a task that failed is started again
SHORT = 1.0  # seconds, the longest pause of what connections depend on
TRIES = 3  # after which nobody waits any longer for a task to start
SETTLED = 10.0  # seconds after which a task that was started again is taken to work
LENGTH = 200  # characters of an exception's text in a log line


class TaskName(enum.Enum):
    """Background parts of a gateway; the value is the name in logs and metrics."""

    ACCEPT = "accept"
    ANALYTICS = "analytics"
    APIS = "apis"
    CLIENT_TRUST = "client_trust"
    DEADLINES = "deadlines"
    DENIALS = "denials"
    DEPLOYED = "deployed"
    EVICTIONS = "evictions"
    FILES = "files"
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


_BITS = {part: 1 << place for place, part in enumerate(TaskName)}


def task_names(mask: int) -> list[str]:
    """Name the parts of a mask, as `changed` is told them."""
    return [part.value for part, bit in _BITS.items() if mask & bit]


class BackgroundTasks:
    """The background parts of one process.

    `failed(part)` is called for each failure, `changed(mask)` when other parts than before fail:
    one bit for each part, by which other processes know (`task_names`).
    """

    def __init__(self) -> None:
        self.on_failure: Callable[[TaskName], None] = lambda part: None
        self.on_change: Callable[[int], None] = lambda mask: None
        self._failing: dict[TaskName, str] = {}

    @property
    def failing(self) -> dict[TaskName, str]:
        """Tell which parts fail now, and the kind of the exception."""
        return dict(self._failing)

    def problems(self) -> tuple[Problem, ...]:
        """Say which parts fail now, for those who look after the gateway."""
        return tuple(
            Problem(
                "gateway",
                0,
                0,
                f"the background part `{part.value}` fails ({kind}); it is started again until it"
                " works, and what it last did stays in effect",
                "report it, with the log at level debug",
            )
            for part, kind in self._failing.items()
        )

    async def keep(
        self, part: TaskName, task: Callable[[], Awaitable[None]], *, longest: float = LONGEST_PAUSE
    ) -> None:
        """Run a task to its end, again and again while it fails; pauses grow to `longest`."""
        await self._keep(part, task, longest=longest)

    async def start(
        self,
        part: TaskName,
        task: Callable[..., Awaitable[Any]],
        *,
        on_give_up: Callable[[], None] = lambda: None,
        longest: float = LONGEST_PAUSE,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Do the same with a task that reports when it has started, by its `task_status`.

        For `nursery.start`: reports as started when the task has, or when it has failed `TRIES`
        times before that; then `on_give_up` is called first.
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

        await self._keep(part, run, give_up, longest=longest)

    def record_failure(self, part: TaskName, error: BaseException, then: str = "") -> None:
        """Log, count and show that a part has failed; `then` says what is done about it."""
        inner: BaseException = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        kind = type(inner).__name__
        text = " ".join(str(inner).split())[:LENGTH]
        what = f"{kind}: {text}" if text else kind
        log.error("%s failed: %s%s%s", part.value, what, _place(inner), then)
        log.debug("%s failed", part.value, exc_info=error)
        before = self._failing.get(part)
        self._failing[part] = kind
        self.on_failure(part)
        if before is None:
            self._tell()

    def record_recovery(self, part: TaskName) -> None:
        """Show that a part works again."""
        if self._failing.pop(part, None) is not None:
            log.info("%s works again", part.value)
            self._tell()

    def _tell(self) -> None:
        self.on_change(sum(_BITS[part] for part in self._failing))

    async def _keep(
        self,
        part: TaskName,
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
                        nursery.start_soon(self._settle, part)
                    await task()
                    nursery.cancel_scope.cancel()
            except* Exception as bugs:
                failed = True
                if trio.current_time() - began >= max(SETTLED, pause):
                    pause = FIRST_PAUSE
                self.record_failure(part, bugs, f"; starting it again in {pause:.1f} s")
            if not failed:
                self.record_recovery(part)
                return
            failures += 1
            if failures >= TRIES:
                give_up()
            await trio.sleep(pause)
            pause, again = min(pause * 2, longest), True

    async def _settle(self, part: TaskName) -> None:
        await trio.sleep(SETTLED)
        self.record_recovery(part)


def _place(error: BaseException) -> str:
    """Name the line that raised it."""
    frames: Iterable[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__, limit=-1)
    return "".join(f" ({frame.filename}:{frame.lineno})" for frame in frames)
