"""Serve the road inside Trio's own wait, so that a message need not pass through Trio at all.

Trio asks its instruments before it waits. This one does the waiting: in the road's epoll set, in
which the one of Trio is watched too. Sockets are served again and again until Trio has something
to do of its own: something it waits for is ready, a deadline has passed, or a pair was let go
and its task is runnable. Where tasks are runnable already, there is one round without waiting.

Theory of operation. Trio waits again when the instrument returns, for as long as it wanted to in
the beginning and without watching the road, so it must find something ready: the kick, a
descriptor that was put into its set behind its back, and of which it makes nothing; no task has to
run for it. Where something is ready that Trio waits for there is no need, if only this process can
take it; a connection to a socket that several listen to may have been accepted by another one
meanwhile. Only when nothing at all has happened, and no deadline is due, is Trio left alone: some
wait for exactly that (`wait_all_tasks_blocked`, clocks that jump).

Trio has no name for its epoll set. The kernel has one: of all sets of this process it is the one
that watches the nudge, for which the task of `run` waits. Where it cannot be found, `run` returns,
and the road has to be waited for as for anything else. So it is for a second road, which the wait
for the first would not see.
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_gw.relay import calls

if TYPE_CHECKING:
    from trio_gw.relay.turn import Sockets

FDINFO = Path("/proc/self/fdinfo")
_TAKEN: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("_TAKEN", default=False)


class Bypass(trio.abc.Instrument):
    """Trio's wait, borrowed. No other method of this class may have the name of a hook."""

    def __init__(self, sockets: Sockets, *, sole: bool = False) -> None:
        """Wait for `sockets`; `sole` tells that no other process has what Trio waits for."""
        self._sockets = sockets
        self._sole = sole
        self._nudge = self._kick = -1
        self._found: bool | None = None
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Serve until cancelled; returns if Trio's wait cannot be found, or is lent already."""
        if _TAKEN.get():
            return
        _TAKEN.set(True)
        self._nudge = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            trio.lowlevel.add_instrument(self)
            try:
                while self._found is not False:
                    await trio.lowlevel.wait_readable(self._nudge)
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._nudge)
                    if self._failure is not None:
                        raise self._failure
            finally:
                trio.lowlevel.remove_instrument(self)
        finally:
            os.close(self._nudge)
            os.close(self._kick)
            _TAKEN.set(False)

    def before_io_wait(self, timeout: float) -> None:
        """Wait in Trio's place, or serve once if it does not want to wait."""
        try:
            if self._found is None:
                self._look()
                os.eventfd_write(self._nudge, 1)
            elif self._wait(timeout):
                os.eventfd_write(self._kick, 1)
        except Exception as failure:
            # Trio would only log it. It is raised in `run`, which ends the road.
            self._failure = failure
            os.eventfd_write(self._nudge, 1)

    def _wait(self, timeout: float) -> bool:
        """Serve; returns whether Trio has to be kept from waiting."""
        if not self._sockets or self._failure is not None or not self._found:
            return False
        if timeout <= 0:
            self._sockets.serve(calls.MOST)
            return False
        happened = self._sockets.stay(timeout)
        if self._sole and self._sockets.called:
            return False  # Trio finds what called it
        return happened or _due()

    def _look(self) -> None:
        """Find Trio's set, watch it, and put the kick into it."""
        self._found = False
        if (trios := watching(self._nudge)) is not None:
            with contextlib.suppress(OSError):  # the kernel's limit of watches is reached
                with select.epoll.fromfd(os.dup(trios)) as same:
                    # Edge-triggered: each write is told of once, and nobody need read it.
                    same.register(self._kick, select.EPOLLIN | select.EPOLLET)
                self._sockets.heed(trios)
                self._found = True


def _due() -> bool:
    """Tell whether a deadline of Trio's has passed."""
    return trio.lowlevel.current_statistics().seconds_to_next_deadline <= 0


def watching(number: int) -> int | None:
    """Find the one epoll set of this process that watches a descriptor."""
    found = []
    try:
        for info in FDINFO.iterdir():
            try:
                lines = info.read_text().splitlines()
            except OSError:  # closed meanwhile, as that of the folder itself
                continue
            for line in lines:
                name, _, value = line.partition(":")
                if name == "tfd" and int(value.split()[0]) == number:
                    found.append(int(info.name))
    except OSError:
        return None
    return found[0] if len(found) == 1 else None
