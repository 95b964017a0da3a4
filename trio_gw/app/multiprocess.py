"""Several workers: what is made before they are forked, and what each of them is given.

The listening sockets, the key material and the counters come first, in the process that will
supervise; so whatever cannot be is said once, before there is any worker. Every worker then
runs the whole gateway by itself: its own event loop, its own watch on the projects. What they
share is the folder, the sockets and the counters.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from trio_gw.app import listeners
from trio_gw.app.build import cleanup
from trio_gw.app.key_material import load_keys
from trio_gw.app.worker_context import WorkerContext
from trio_gw.proxy.limiter_factory import make_shared_counters
from trio_gw.supervision.shared_memory import Counters, Pages
from trio_gw.supervision.supervisor import StopPipe, Supervisor
from trio_gw.supervision.watchdog import Watchdog
from trio_gw.telemetry import logs, metrics, tracing
from trio_gw.workers.rpc import RpcChannels, WorkerRpc
from trio_gw.workers.shared_state import SharedState, mark_dead

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.config.settings import Settings

GRACE = 5.0  # seconds beyond those that draining may take, before a worker is killed


def count(settings: Settings) -> int:
    """Say how many workers the settings ask for; 0 there is one for each core."""
    return settings.workers or len(os.sched_getaffinity(0))


def run(
    settings: Settings,
    base: Path,
    serve: Callable[[WorkerContext], int],
    renewed: Callable[[], Settings],
) -> int:
    """Run `serve` in as many processes as the settings ask for, until told to stop.

    At SIGHUP they are `renewed`, here and then in every process: one that is forked later has
    them, too. Returns the exit code. Raises `UnusableError` when the gateway cannot start.
    """
    log = settings.log
    logs.configure(log.level, "supervisor", log.format)
    cleanup(settings, base)
    tracing.require(settings.tracing.endpoint)
    load_keys(settings, base)
    sockets = listeners.bind_all(settings)
    listeners.log_addresses(sockets)
    counters = Counters(count(settings))
    pages = Pages(counters.processes) if settings.metrics.enabled else None
    shared = make_shared_counters(settings, counters.processes)
    channels = RpcChannels(counters.processes)
    started = time.time()

    def child(index: int, stop_pipe: StopPipe) -> int:
        logs.configure(log.level, f"worker {index + 1}", log.format)
        # It is blocked until somebody wants it, and does nothing when nobody does any more.
        # Not SIG_IGN: that would take away one that has come already.
        signal.signal(signal.SIGHUP, lambda signum, frame: None)
        if index:
            # All of them see the same projects come and go; one of them says so.
            logging.getLogger("trio_gw.feed").setLevel(logging.WARNING)
        shared_state = SharedState(counters, index, pages, started)
        rpc = WorkerRpc(channels, index)
        return serve(WorkerContext(index + 1, shared_state, sockets, stop_pipe, shared, rpc))

    def reload() -> None:
        nonlocal log
        log = renewed().log

    def ended(index: int) -> None:
        mark_dead(counters, index)
        shared.mark_dead(index)
        if pages is not None:
            metrics.retire(pages, index)

    try:
        return Supervisor(
            counters.processes,
            child,
            on_exit=ended,
            # While anybody holds them, the kernel accepts what nobody will serve.
            on_stop=lambda: listeners.close_all(sockets),
            on_reload=reload,
            kill_timeout=settings.timeouts.drain + settings.timeouts.close + GRACE,
            watchdog=Watchdog(counters, settings.worker_timeout),
        ).supervise()
    finally:
        listeners.close_all(sockets)
        channels.close()
