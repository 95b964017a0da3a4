"""The heartbeat of an event loop. By it a supervisor knows that a process responds (`watchdog`).

It also logs when the loop did not run for a while: code that blocks the loop delays all
connections.
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
BLOCKED = 1.0  # seconds that a heartbeat may be late before that is logged


async def run(beat: Callable[[], None]) -> None:
    """Call `beat` once a second, in the event loop. Runs until cancelled."""
    while True:
        beat()
        due = trio.current_time() + INTERVAL
        used = time.thread_time()
        await trio.sleep_until(due)
        late = trio.current_time() - due
        if late > BLOCKED:
            # The loop computed or was blocked, or the process or the machine was stopped.
            used = min(late, time.thread_time() - used)
            log.warning(
                "the event loop did not run for %.1f s, %.1f s of them computing", late, used
            )
