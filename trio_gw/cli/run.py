"""`trio-gw run`: serves until SIGTERM or Ctrl-C, then drains. A second signal stops at once.

With several workers this process supervises them, and each worker runs `_serve`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

import trio_gw
from trio_gw.app import multiprocess, worker
from trio_gw.cli import reload
from trio_gw.cli.common import load_settings, print_problems, problems_in, settings_argument
from trio_gw.cli.reload import RunningSettings
from trio_gw.config import endpoint as endpoints
from trio_gw.config.addresses import is_loopback, parse_address
from trio_gw.config.faults import WrongError
from trio_gw.errors import UnusableError
from trio_gw.escaping import escape
from trio_gw.proxy import descriptors, local_echo
from trio_gw.supervision import heartbeat
from trio_gw.supervision.background import BackgroundTasks
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from trio_gw.app.listeners import Addresses
    from trio_gw.app.worker_context import WorkerContext
    from trio_gw.config.api import Endpoint
    from trio_gw.config.settings import Settings
    from trio_gw.config.settings_file import LoadedSettings
    from trio_gw.routing.route import Route

log = logging.getLogger("trio_gw")

ECHO = "localhost:2360"
GRACE = 10.0  # seconds after the time for draining, before this process ends in any case
HURRY = 3.0  # seconds after the second signal

# Seconds until a thread that computes gives way to the event loop, each time the loop has let go of
# the interpreter: with every system call. Projects are loaded in threads, and with the default of
# 5 ms a message waited 10 to 30 ms then.
SWITCH_INTERVAL = 0.0005


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument(
        "--to",
        metavar="URL",
        help="relay to this backend (ws://… or wss://…), without tokens and API projects: / goes to"
        " exactly this URL, further paths are appended; only on loopback addresses",
    )
    parser.add_argument(
        "--echo",
        metavar="HOST:PORT",
        nargs="?",
        const=ECHO,
        help=f"run the echo backend too (default: {ECHO}), and print how to try it",
    )


def main(options: argparse.Namespace) -> int:
    """Serve; return 0 after an orderly stop, 1 if the gateway cannot start."""
    try:
        loaded = _read(options)
        trial = None if options.to is None else _trial(options.to, loaded)
        where = None if options.echo is None else parse_address(options.echo)
    except UnusableError as error:
        print_problems(error.problems)
        return 1
    except ValueError as error:
        print(escape(f"trio-gw run: {error}"), file=sys.stderr)
        return 2
    print_problems(loaded.problems)
    if where is not None:
        local_echo.announce(*where)
    table = loaded.settings.log
    logs.configure(table.level, style=table.format)
    descriptors.raise_limit()
    current = RunningSettings(loaded, partial(_read, options))
    if multiprocess.count(loaded.settings) == 1:
        return _run(current, trial, where, None)

    def renewed() -> Settings:
        current.renew()
        return current.loaded.settings

    try:
        return multiprocess.run(
            loaded.settings,
            loaded.base,
            lambda context: _run(current, trial, where, context),
            renewed,
        )
    except UnusableError as error:
        print_problems(error.problems)
        return 1


def _read(options: argparse.Namespace) -> LoadedSettings:
    """Load the settings for `run`. Raises `UnusableError`."""
    loaded = load_settings(options)
    return loaded if options.to is None else _without_admin(loaded)


def _run(
    current: RunningSettings,
    trial: Endpoint | None,
    where: tuple[str, int] | None,
    context: WorkerContext | None,
) -> int:
    """Serve in this process. One of several workers has a `context`."""
    code = 0
    # Imported objects stay: if the garbage collector searched them again and again, that would
    # cost each connection some microseconds.
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        with logs.background():
            trio.run(_serve, current, trial, where, context)
    except* UnusableError as group:
        print_problems(problems_in(group))
        code = 1
    return code


def _trial(url: str, loaded: LoadedSettings) -> Endpoint:
    """Parse `--to`. Raises ValueError if the URL or the listeners are not allowed."""
    for name in ("http", "https"):
        address = getattr(loaded.settings.listen, name)
        if address and not is_loopback(parse_address(address)[0]):
            raise ValueError(
                f"--to opens an API without any security, so it needs a loopback address:"
                f" set listen.{name} to localhost:{parse_address(address)[1]}"
            )
    try:
        return endpoints.parse(url)
    except WrongError as error:
        raise ValueError(f"--to {url}: {error}") from None


def _without_admin(loaded: LoadedSettings) -> LoadedSettings:
    """Turn the admin API and the portal off: with `--to`, nothing can be deployed."""
    replace, settings = msgspec.structs.replace, loaded.settings
    listen = replace(settings.listen, admin="")
    portal = replace(settings.portal, enabled=False)
    return replace(loaded, settings=replace(settings, listen=listen, portal=portal))


async def _serve(
    current: RunningSettings,
    trial: Endpoint | None,
    where: tuple[str, int] | None,
    context: WorkerContext | None,
) -> None:
    stop, background = trio.Event(), BackgroundTasks()
    async with trio.open_nursery() as nursery:
        # First, so that a slow start does not look like one that hangs; until the end.
        nursery.start_soon(heartbeat.run, context.shared_state.beat if context else lambda: None)
        first = context is None or context.number == 1
        signals = [signal.SIGTERM]
        if context is None:
            signals.append(signal.SIGINT)
        else:
            nursery.start_soon(_watch_stop_pipe, context, stop, nursery.cancel_scope)
        timeouts = current.loaded.settings.timeouts
        kill_timeout = timeouts.drain + timeouts.close + GRACE
        await nursery.start(_watch_signals, signals, stop, nursery.cancel_scope, kill_timeout)
        ready: list[worker.Running] = []

        async def take(settings: Settings) -> None:
            for running in ready:
                await running.renew(settings)

        loaded = current.loaded
        watching = partial(
            reload.watch, current, take, background=background, log_changes=context is None
        )
        await nursery.start(watching)
        if where is not None and first:
            from trio_gw import echo  # imports a WebSocket library

            await nursery.start(echo.serve, *where)
        running = await nursery.start(
            _gateway, loaded, trial, stop, nursery.cancel_scope, context, background
        )
        # What was loaded stays, too: a full pass over thousands of APIs stops the event loop for
        # more than 100 ms. What is replaced later is freed by its reference counts.
        gc.freeze()
        ready.append(running)
        if current.loaded is not loaded:  # by a SIGHUP during the start
            await take(current.loaded.settings)
        if context is not None:
            log.info("ready")
        again = context is not None and context.shared_state.is_replacement
        if (where is not None or trial is not None) and first and not again:
            logs.show(greeting(running, trial))


async def _gateway(
    loaded: LoadedSettings,
    trial: Endpoint | None,
    stop: trio.Event,
    scope: trio.CancelScope,
    context: WorkerContext | None,
    background: BackgroundTasks,
    *,
    task_status: trio.TaskStatus[worker.Running],
) -> None:
    await worker.run(
        loaded.settings,
        loaded.base,
        trial=trial,
        stop=stop,
        context=context,
        background=background,
        task_status=task_status,
    )
    scope.cancel()  # drained: no other task keeps the process running


async def _watch_signals(
    signals: Sequence[signal.Signals],
    stop: trio.Event,
    scope: trio.CancelScope,
    kill_timeout: float,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    with trio.open_signal_receiver(*signals) as received:
        task_status.started()
        await anext(received)
        stop.set()
        _end_within(kill_timeout)
        await anext(received)
        scope.cancel()
        _end_within(HURRY)


def _end_within(seconds: float) -> None:
    """End this process after so many seconds, if it still runs.

    The process waits for threads that write, but not for ever: a disk can hang.
    """
    timer = threading.Timer(seconds, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    log.critical("a thread still waits, perhaps for a disk: the process ends without it")
    time.sleep(0.1)  # the line is written by another thread
    os._exit(1)


async def _watch_stop_pipe(
    context: WorkerContext, stop: trio.Event, scope: trio.CancelScope
) -> None:
    """Stop when the supervisor asks for it, or when it is gone."""
    async with trio.lowlevel.FdStream(context.stop_pipe.descriptor) as stop_pipe:
        if not await stop_pipe.receive_some(1):
            log.error("the supervisor is gone: stopping")
            stop.set()
            return
        stop.set()
        if await stop_pipe.receive_some(1):
            scope.cancel()


def greeting(running: worker.Running, trial: Endpoint | None = None) -> str:
    """Return a text with the topics that are served and a command that connects to one.

    `trial` is the backend of `--to`.
    """
    lines = [f"trio-gw {trio_gw.__version__} is ready."]
    http, https = running.addresses.http, running.addresses.https
    if portal := _portal(running.addresses):
        lines.append(f"portal: {portal}")
    rows = list(running.live.table.rows())
    base = f"ws://localhost:{http[1]}" if http else f"wss://localhost:{https[1] if https else 0}"
    for _, prefix, route in rows:
        scopes = ", ".join(route.topic.scopes or ())
        needs = f"needs scope {scopes}" if scopes else "any valid token"
        lines.append(f"  {base}{prefix}{route.topic.name}  ({needs if route.secured else 'open'})")
    if trial is not None and rows:
        target = rows[0][2].target
        exactly, below = (target.build(trial, {}, "", rest) for rest in ("/", "/any/path"))
        lines.append(f"  / reaches exactly {trial.origin}{exactly}; further paths are appended:")
        lines.append(f"  /any/path reaches {trial.origin}{below}")
    if rows:
        lines += ["", "Try it (then type something, Ctrl-C leaves):", f"  {_wscat(running, base)}"]
    return "\n".join(map(escape, lines))


def _portal(addresses: Addresses) -> str:
    """Return the URL of the portal on this machine; empty if there is none."""
    if addresses.portal is not None:
        return f"http://localhost:{addresses.portal[1]}/portal/"
    return ""


def _wscat(running: worker.Running, base: str) -> str:
    """Return a wscat command for the topic with the fewest requirements."""
    rows = list(running.live.table.rows())
    _, prefix, route = min(
        rows, key=lambda row: (len(row[2].parameters), len(row[2].topic.scopes or ()))
    )
    scopes = sorted({scope for _, _, other in rows for scope in other.topic.scopes or ()})
    line = f"npx wscat -c {base}{_example_path(prefix, route)}"
    if route.secured and running.testkeys is not None:
        token = running.testkeys.mint("admin", " ".join(scopes) or None, time.time())
        line += f' -H "Authorization: Bearer {token}"'
    return line if base.startswith("ws://") else f"{line} --no-check"


def _example_path(prefix: str, route: Route) -> str:
    path = route.topic.name.removesuffix("/*")
    for name in route.parameters:
        path = path.replace(f"{{{name}}}", "1", 1)
    return prefix + path or "/"
