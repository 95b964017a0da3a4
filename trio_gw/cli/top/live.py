"""The live view: requests, drawing and keys, each in its own task, until `q`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import trio
from rich.console import Console
from rich.live import Live

from trio_gw.cli.client import AsyncAdminClient, RefusedError
from trio_gw.cli.top import fetch
from trio_gw.cli.top.drawing import page, screen
from trio_gw.cli.top.responses import Stats, picture
from trio_gw.cli.top.state import CloseRequest, State
from trio_gw.cli.top.terminal import Keys

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


REASON = "closed by an administrator"
PLAIN_WIDTH = 120  # cells, if the output is not a terminal
_REDRAWN = (signal.SIGWINCH, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def once(options: argparse.Namespace) -> int:
    """Print a page. Raises `RefusedError`."""
    async with AsyncAdminClient(options) as watch:
        state = State(picture=await fetch.compared(watch))
    console = Console(highlight=False, markup=False, emoji=False)
    width = console.width if console.is_terminal else PLAIN_WIDTH
    console.print(page(state, watch.url, _clock(), width), soft_wrap=True)
    return 0


async def show(options: argparse.Namespace) -> int:
    """Show the live view until `q`. Raises `RefusedError` if there is nothing to show."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        raise RefusedError("standard output is not a terminal that supports drawing; use --once")
    async with AsyncAdminClient(options) as watch:
        await watch.login()
        before = await fetch.stats(watch)  # an error at the start is printed as a line
        try:
            keys = Keys()
        except OSError:
            raise RefusedError("there is no terminal to read keys from; use --once") from None
        with keys, _screen() as live:
            view = _View(watch, options.interval, live)
            await view.run(keys, before)
    if view.fault is not None:
        raise view.fault
    return view.code


@contextlib.contextmanager
def _screen() -> Iterator[Live]:
    console = Console(highlight=False, markup=False, emoji=False)
    with Live(
        console=console,
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        yield live


class _View:
    """One live view."""

    def __init__(self, watch: AsyncAdminClient, interval: float, live: Live) -> None:
        self.code = 0
        self.fault: RefusedError | None = None
        self._watch = watch
        self._interval = interval
        self._live = live
        self._state = State()
        self._wanted = trio.Event()  # requests an update at once

    async def run(self, keys: Keys, before: Stats) -> None:
        self._draw()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._handle_signals, nursery)
            nursery.start_soon(self._look, before, nursery.cancel_scope)
            async with contextlib.aclosing(keys.pressed()) as pressed:
                async for key in pressed:
                    action = self._state.press(key)
                    if action == "quit":
                        break
                    if action == "look":
                        self._wanted.set()
                    elif isinstance(action, CloseRequest):
                        nursery.start_soon(self._close, action)
                    self._draw()
            nursery.cancel_scope.cancel()

    async def _look(self, before: Stats | None, scope: trio.CancelScope) -> None:
        """Update repeatedly; a gateway that does not answer is asked until it is back."""
        state = self._state
        sample = min(fetch.SAMPLE, self._interval / 2)
        since = ""
        while True:
            due = trio.current_time() + self._interval
            self._wanted = trio.Event()
            sort, match = state.sort, state.filter
            try:
                answers = await fetch.look(self._watch, sort, match, sample)
            except RefusedError as error:
                if error.status == 401:  # more attempts would look like guessing
                    self.fault = error
                    scope.cancel()
                    return
                before = None
                since = since or _clock()
                state.trouble = f"no response since {since}, trying again: {error}"
            else:
                since = ""
                if not state.paused:
                    state.take(picture(before, answers))
                before = answers.stats
            self._draw()
            with trio.move_on_at(due):
                await self._wanted.wait()
            while state.paused:
                await self._wanted.wait()
                self._wanted = trio.Event()

    async def _close(self, request: CloseRequest) -> None:
        state = self._state
        try:
            path = f"/admin/connections/{request.id}"
            await self._watch.ask("DELETE", path, {"reason": REASON})
            state.note = f"closed {request.who}"
        except RefusedError as error:
            gone = error.status == 404
            state.note = f"{request.who} is closed" if gone else f"not closed: {error}"
        self._wanted.set()
        self._draw()

    async def _handle_signals(self, nursery: trio.Nursery) -> None:
        """Draw again when the size of the terminal changes; end in order for other signals."""
        with trio.open_signal_receiver(*_REDRAWN) as received:
            async for number in received:
                if number != signal.SIGWINCH:
                    self.code = 128 + number
                    nursery.cancel_scope.cancel()
                    return
                self._draw()

    def _draw(self) -> None:
        width, height = self._live.console.size
        self._live.update(
            screen(self._state, self._watch.url, _clock(), width, height), refresh=True
        )


def _clock() -> str:
    return time.strftime("%H:%M:%S")
