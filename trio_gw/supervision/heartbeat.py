"""The heartbeat of an event loop: by it a supervisor knows that a process responds (`watchdog`).

It says, too, when the loop did not run for a while: a part that blocks it makes everybody wait.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("trio_gw.heartbeat")

INTERVAL = 1.0  # seconds
BLOCKED = 1.0  # seconds that a beat may be late before it is told


async def run(beat: Callable[[], None]) -> None:
    """Call `beat` once a second, in the event loop. Runs until cancelled."""
    while True:
        beat()
        due = trio.current_time() + INTERVAL
        used = time.thread_time()
        await trio.sleep_until(due)
        late = trio.current_time() - due
        if late > BLOCKED:
            # Computing or waiting; or the process, or the whole machine, was stopped.
            used = min(late, time.thread_time() - used)
            log.warning(
                "the event loop did not run for %.1f s, %.1f s of them computing", late, used
            )
