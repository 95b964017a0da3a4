"""`trio-gw run`: serve until told to stop. SIGTERM and Ctrl-C drain, a second one stops at once."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

import trio

import trio_gw
from trio_gw import echo, worker
from trio_gw.cli.common import load_settings, problems_in, settings_argument, tell
from trio_gw.config import endpoint as endpoints
from trio_gw.config.findings import WrongError
from trio_gw.config.settings import is_loopback, parse_address
from trio_gw.errors import UnusableError
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    import argparse

    from trio_gw.config.api import Endpoint
    from trio_gw.config.settings_file import LoadedSettings
    from trio_gw.routes import Route

ECHO = "localhost:2360"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    settings_argument(parser)
    parser.add_argument(
        "--to",
        metavar="URL",
        help="relay every path, without tokens, to this one backend (ws://… or wss://…); no API"
        " project is needed; only on loopback addresses",
    )
    parser.add_argument(
        "--echo",
        metavar="HOST:PORT",
        nargs="?",
        const=ECHO,
        help=f"run the echo backend too (default: {ECHO}), and print how to try it",
    )


def main(options: argparse.Namespace) -> int:
    """Serve; returns 0 after an orderly stop, 1 when the gateway cannot start."""
    try:
        loaded = load_settings(options)
        trial = None if options.to is None else _trial(options.to, loaded)
        where = None if options.echo is None else parse_address(options.echo)
    except UnusableError as error:
        tell(error.problems)
        return 1
    except ValueError as error:
        print(f"trio-gw run: {error}", file=sys.stderr)
        return 2
    tell(loaded.problems)
    logs.configure()
    code = 0
    try:
        trio.run(_serve, loaded, trial, where)
    except* UnusableError as group:
        tell(problems_in(group))
        code = 1
    return code


def _trial(url: str, loaded: LoadedSettings) -> Endpoint:
    """Judge `--to`. Raises ValueError when it cannot be, or must not be, relayed to."""
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


async def _serve(
    loaded: LoadedSettings, trial: Endpoint | None, where: tuple[str, int] | None
) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_signals, stop, nursery.cancel_scope)
        if where is not None:
            await nursery.start(echo.serve, *where)
        running = await nursery.start(_gateway, loaded, trial, stop, nursery.cancel_scope)
        if where is not None or trial is not None:
            print(greeting(running), flush=True)


async def _gateway(
    loaded: LoadedSettings,
    trial: Endpoint | None,
    stop: trio.Event,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[worker.Running],
) -> None:
    await worker.run(loaded.settings, loaded.base, trial=trial, stop=stop, task_status=task_status)
    scope.cancel()  # drained: nothing else may keep the process


async def _watch_signals(stop: trio.Event, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stop.is_set():
                scope.cancel()
            stop.set()


def greeting(running: worker.Running) -> str:
    """Say what is served, and give a command line that connects to it."""
    lines = [f"trio-gw {trio_gw.__version__} is ready."]
    http, https = running.addresses
    rows = list(running.live.table.rows())
    base = f"ws://localhost:{http[1]}" if http else f"wss://localhost:{https[1] if https else 0}"
    for _, prefix, route in rows:
        scopes = ", ".join(route.topic.scopes or ())
        needs = f"needs scope {scopes}" if scopes else "any valid token"
        lines.append(f"  {base}{prefix}{route.topic.name}  ({needs if route.secured else 'open'})")
    if rows:
        lines += ["", "Try it (then type something, Ctrl-C leaves):", f"  {_wscat(running, base)}"]
    return "\n".join(lines)


def _wscat(running: worker.Running, base: str) -> str:
    """Write a wscat command for the topic that asks for least."""
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
