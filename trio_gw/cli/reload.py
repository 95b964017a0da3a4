"""Handles SIGHUP: reads the settings again, and applies the changes that need no restart.

One process logs the changes that need a restart. Settings with errors change nothing.
"""

from __future__ import annotations

import logging
import signal
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.config.renewal import differences, take_over
from trio_gw.errors import UnusableError
from trio_gw.supervision.background import BackgroundTasks, TaskName
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.config.settings import Settings
    from trio_gw.config.settings_file import LoadedSettings

log = logging.getLogger("trio_gw")


class RunningSettings:
    """The settings of this process: `loaded` are in use, `read` reads them again."""

    def __init__(self, loaded: LoadedSettings, read: Callable[[], LoadedSettings]) -> None:
        self.loaded = loaded
        self._read = read

    def renew(self, *, log_changes: bool = True) -> bool:
        """Read the settings and apply what needs no restart; return whether they are valid. Blocks.

        With `log_changes`, log the changes that need a restart.
        """
        try:
            read = self._read()
        except (UnusableError, OSError) as error:
            problems = error.problems if isinstance(error, UnusableError) else (error,)
            for problem in problems if log_changes else ():
                log.error("%s; the settings do not change", problem)
            return False
        settings = take_over(self.loaded.settings, read.settings)
        self.loaded = msgspec.structs.replace(self.loaded, settings=settings)
        logs.set_level(settings.log.level)
        if log_changes:
            for problem in read.problems:
                log.warning("%s", problem)
            if changed := differences(settings, read.settings):
                log.warning("changed in the settings, but needs a restart: %s", ", ".join(changed))
        return True


async def watch(
    current: RunningSettings,
    take: Callable[[Settings], Awaitable[None]],
    *,
    background: BackgroundTasks,
    log_changes: bool,
    task_status: trio.TaskStatus[None],
) -> None:
    """Pass the settings to `take` at each SIGHUP."""
    with trio.open_signal_receiver(signal.SIGHUP) as received:
        # A worker starts with SIGHUP blocked: one that is pending is handled now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))
        task_status.started()
        async for _ in received:
            try:
                renew, limiter = (
                    partial(current.renew, log_changes=log_changes),
                    trio.CapacityLimiter(1),
                )
                # A file system that hangs blocks nothing else, not even the end.
                run = partial(trio.to_thread.run_sync, abandon_on_cancel=True, limiter=limiter)
                if not await run(renew):
                    continue
                settings = current.loaded.settings
                logs.set_level("info")  # for the next line
                log.info("log level is %s", settings.log.level)
                logs.set_level(settings.log.level)
                await take(settings)
            except Exception as error:
                # The receiver stays: without it, the next SIGHUP would end the process.
                background.record_failure(TaskName.SETTINGS, error)
            else:
                background.record_recovery(TaskName.SETTINGS)
