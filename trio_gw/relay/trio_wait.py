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

from trio_gw.relay import syscalls

if TYPE_CHECKING:
    from trio_gw.relay.epoll_loop import Poller

FDINFO = Path("/proc/self/fdinfo")
_HOOKED: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("_HOOKED", default=False)


class TrioWait(trio.abc.Instrument):
    """Trio's wait, borrowed. No other method of this class may have the name of a hook."""

    def __init__(self, poller: Poller, *, exclusive: bool = False) -> None:
        """Wait for `poller`; `exclusive` tells that no other process has what Trio waits for."""
        self._poller = poller
        self._exclusive = exclusive
        self._probe_fd = self._wakeup_fd = -1
        self._found: bool | None = None
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Serve until cancelled; returns if Trio's wait cannot be found, or is lent already."""
        if _HOOKED.get():
            return
        _HOOKED.set(True)
        self._probe_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wakeup_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            trio.lowlevel.add_instrument(self)
            try:
                while self._found is not False:
                    await trio.lowlevel.wait_readable(self._probe_fd)
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._probe_fd)
                    if self._failure is not None:
                        raise self._failure
            finally:
                trio.lowlevel.remove_instrument(self)
        finally:
            os.close(self._probe_fd)
            os.close(self._wakeup_fd)
            _HOOKED.set(False)

    def before_io_wait(self, timeout: float) -> None:
        """Wait in Trio's place, or serve once if it does not want to wait."""
        try:
            if self._found is None:
                self._find_epoll()
                os.eventfd_write(self._probe_fd, 1)
            elif self._wait(timeout):
                os.eventfd_write(self._wakeup_fd, 1)
        except Exception as failure:
            # Trio would only log it. It is raised in `run`, which ends the road.
            self._failure = failure
            os.eventfd_write(self._probe_fd, 1)

    def _wait(self, timeout: float) -> bool:
        """Serve; returns whether Trio has to be kept from waiting."""
        if not self._poller or self._failure is not None or not self._found:
            return False
        if timeout <= 0:
            self._poller.poll_once(syscalls.MAX_EVENTS)
            return False
        happened = self._poller.run_until(timeout)
        if self._exclusive and self._poller.trio_ready:
            return False  # Trio finds what called it
        return happened or _due()

    def _find_epoll(self) -> None:
        """Find Trio's set, watch it, and put the kick into it."""
        self._found = False
        if (trios := epoll_watching(self._probe_fd)) is not None:
            with contextlib.suppress(OSError):  # the kernel's limit of watches is reached
                with select.epoll.fromfd(os.dup(trios)) as same:
                    # Edge-triggered: each write is told of once, and nobody need read it.
                    same.register(self._wakeup_fd, select.EPOLLIN | select.EPOLLET)
                self._poller.watch_external(trios)
                self._found = True


def _due() -> bool:
    """Tell whether a deadline of Trio's has passed."""
    return trio.lowlevel.current_statistics().seconds_to_next_deadline <= 0


def epoll_watching(number: int) -> int | None:
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
