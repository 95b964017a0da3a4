"""Starts several workers under a supervisor.

The process that will supervise binds the listening sockets, loads the key material and creates the
shared counters. So an error at start is reported once, before there is any worker. Then every
worker runs a complete gateway, with its own event loop and its own watch on the projects. The
workers share the folder, the sockets and the counters.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from trio_gw.app import listeners
from trio_gw.app.build import cleanup
from trio_gw.app.cache_folder import cache_folder
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

GRACE = 5.0  # seconds after the time for draining, before a worker is killed


def count(settings: Settings) -> int:
    """Return the number of workers. 0 in the settings means one for each core."""
    return settings.workers or len(os.sched_getaffinity(0))


def run(
    settings: Settings,
    base: Path,
    serve: Callable[[WorkerContext], int],
    renewed: Callable[[], Settings],
) -> int:
    """Run `serve` in as many processes as the settings ask for, until asked to stop.

    On SIGHUP this process reads the settings again (`renewed`), and then every worker does. So a
    worker that is forked later has the new settings too. Returns the exit code. Raises
    `UnusableError` when the gateway cannot start.
    """
    log = settings.log
    logs.configure(log.level, "supervisor", log.format)
    cleanup(settings, base)
    tracing.require(settings.tracing.endpoint)
    if settings.control_plane.url:
        from trio_gw.control_plane.requirements import require, tls_context

        require(settings.control_plane.url)
        tls_context(settings.control_plane, base)  # reports bad files before the first fork
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
        # SIGHUP is blocked until the worker handles it, and has no effect at its end. SIG_IGN
        # would discard a signal that is already pending.
        signal.signal(signal.SIGHUP, lambda signum, frame: None)
        if index:
            # All workers see the same changes of projects; the first one logs them.
            logging.getLogger("trio_gw.feed").setLevel(logging.WARNING)
            logging.getLogger("trio_gw.control_plane").setLevel(logging.WARNING)
        shared_state = SharedState(counters, index, pages, started)
        rpc = WorkerRpc(channels, index)
        return serve(WorkerContext(index + 1, shared_state, sockets, stop_pipe, shared, rpc, cache))

    def reload() -> None:
        nonlocal log
        log = renewed().log

    def ended(index: int) -> None:
        mark_dead(counters, index)
        shared.mark_dead(index)
        if pages is not None:
            metrics.retire(pages, index)

    try:
        with cache_folder(settings.control_plane, base) as cache:
            return Supervisor(
                counters.processes,
                child,
                on_exit=ended,
                # While a process holds the sockets, the kernel accepts connections for them.
                on_stop=lambda: listeners.close_all(sockets),
                on_reload=reload,
                kill_timeout=settings.timeouts.drain + settings.timeouts.close + GRACE,
                watchdog=Watchdog(counters, settings.worker_timeout),
            ).supervise()
    finally:
        listeners.close_all(sockets)
        channels.close()
