"""Serve our epoll set inside Trio's own wait, so that most messages never pass through Trio.

Trio calls its instruments before it waits. Our instrument waits first, in our epoll set, in which
Trio's epoll set is registered too. It serves sockets again and again until Trio has something to
do: a descriptor that Trio watches is ready, a deadline has passed, or a task became runnable. If
tasks are runnable already, it serves one round without waiting.

After that Trio waits in its own epoll set, for the whole time that it planned at first, and without
watching ours. To make that wait return at once, we make an eventfd readable that we registered in
Trio's epoll set. Trio ignores events for descriptors that it does not know, and runs no task for
them. This is not needed if a descriptor that Trio watches is ready and only this process can use
it. Where several processes accept from the same socket, another one may have taken the connection
meanwhile. If nothing happened and no deadline is due, Trio waits as it planned: some callers wait
for exactly that (`wait_all_tasks_blocked`, clocks that jump).

Trio does not publish its epoll set. The kernel does: it is the only epoll set of this process that
watches `_probe_fd`, for which the task of `run` waits (`/proc/self/fdinfo`).

No other file relies on how Trio works inside. This one relies on five things, seen in Trio 0.31 to
0.35:

1. `_core/_run.py`, `unrolled_run` calls `before_io_wait` before every wait, in the thread of the
   event loop: `runner.instruments.call("before_io_wait", timeout)`. Then follow
   `events = yield timeout` and `runner.io_manager.process_events(events)`. A task that is
   rescheduled in the instrument runs after that.
2. `_core/_io_epoll.py`, `EpollIOManager.get_events` waits in one epoll set:
   `self._epoll.poll(timeout, max_events)`.
3. `EpollIOManager.process_events` ignores a descriptor that it does not know. `_registered` is a
   `defaultdict`, so `waiters = self._registered[fd]` makes an entry without tasks. Then
   `_update_registrations` removes that entry, and leaves the epoll set unchanged, because no flags
   are wanted.
4. `_update_registrations` registers descriptors with `EPOLLONESHOT`, again after each event. So
   Trio's epoll set is readable in ours exactly when Trio has events to process.
5. `trio.lowlevel.current_statistics().seconds_to_next_deadline` may be asked from an instrument.

`self_test` tries all of this, once per process, in a Trio loop of its own in a thread: a Trio that
is strict about unknown descriptors ends that loop, and not the gateway. If anything is missing,
`run` returns the reason, and our epoll set has to be waited for like any other descriptor. That is
slower, and always works. `TRIO_GW_BYPASS=0` or the setting `relay.bypass` chooses it.

A task of ours that waits for the eventfd would need nothing of point 3. But to run it costs 8 µs
for each pass through Trio, a third more than the pass itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_gw.relay import syscalls

if TYPE_CHECKING:
    from trio_gw.relay.epoll_loop import Poller

SWITCH = "TRIO_GW_BYPASS"
FDINFO = Path("/proc/self/fdinfo")
PROBE_SECONDS = 1.0
_WAKE_UPS = 3  # in a self-test
_HOOKED: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("_HOOKED", default=False)

NOT_CALLED = "Trio does not call before_io_wait"
NOT_FOUND = "Trio's epoll set cannot be found or watched"
NOT_IGNORED = "Trio does not ignore an event of a descriptor that it does not know"
IN_USE = "this event loop serves another epoll set already"


def switched_off() -> bool:
    """Return whether the environment says not to use this."""
    return os.environ.get(SWITCH, "") == "0"


class TrioWait(trio.abc.Instrument):
    """An instrument that waits in Trio's place. Do not name another method like a Trio hook."""

    def __init__(self, poller: Poller | _Rehearsal, *, exclusive: bool = False) -> None:
        """Serve `poller`. `exclusive`: no other process waits for what this Trio waits for."""
        self._poller = poller
        self._exclusive = exclusive
        self._probe_fd = self._wakeup_fd = -1
        self._found: bool | None = None
        self._failure: Exception | None = None

    async def run(self) -> str:
        """Serve until cancelled; returns the reason if Trio's wait cannot be used."""
        if _HOOKED.get():
            return IN_USE
        if reason := self_test():
            return reason
        _HOOKED.set(True)
        try:
            return await self.run_untested()
        finally:
            _HOOKED.set(False)

    async def run_untested(self) -> str:
        """Do the same without a self-test."""
        self._probe_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wakeup_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            trio.lowlevel.add_instrument(self)
            try:
                with trio.move_on_after(PROBE_SECONDS):
                    await self._probed()
                if self._found is None:
                    return NOT_CALLED
                while self._found:
                    await self._probed()
                return NOT_FOUND
            finally:
                with contextlib.suppress(RuntimeError):  # the event loop has failed, in a self-test
                    trio.lowlevel.remove_instrument(self)
        finally:
            os.close(self._probe_fd)
            os.close(self._wakeup_fd)

    async def _probed(self) -> None:
        """Wait until the instrument has something to report."""
        await trio.lowlevel.wait_readable(self._probe_fd)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._probe_fd)
        if self._failure is not None:
            raise self._failure

    def before_io_wait(self, timeout: float) -> None:
        """Wait in Trio's place, or serve one round if Trio does not want to wait."""
        try:
            if self._found is None:
                self._find_epoll()
                os.eventfd_write(self._probe_fd, 1)
            elif self._wait(timeout):
                os.eventfd_write(self._wakeup_fd, 1)
        except Exception as failure:
            # Trio would only log it. `run` raises it, which ends the fast path.
            self.fail(failure)

    def fail(self, failure: Exception) -> None:
        """Let `run` raise this. May be called from another thread."""
        self._failure = failure
        os.eventfd_write(self._probe_fd, 1)

    def _wait(self, timeout: float) -> bool:
        """Serve; returns whether Trio must not wait."""
        if not self._poller or self._failure is not None or not self._found:
            return False
        if timeout <= 0:
            self._poller.poll_once(syscalls.MAX_EVENTS)
            return False
        happened = self._poller.run_until(timeout)
        if self._exclusive and self._poller.trio_ready:
            return False  # Trio finds the descriptor that is ready
        return happened or _due()

    def _find_epoll(self) -> None:
        """Find Trio's epoll set, watch it, and register the eventfd for wake-ups in it."""
        self._found = False
        if (trios := epoll_watching(self._probe_fd)) is not None:
            with contextlib.suppress(OSError):  # the kernel's limit of watches is reached
                with select.epoll.fromfd(os.dup(trios)) as same:
                    # Edge-triggered: each write is reported once, and nobody has to read it.
                    same.register(self._wakeup_fd, select.EPOLLIN | select.EPOLLET)
                self._poller.watch_external(trios)
                self._found = True


def _due() -> bool:
    """Return whether a deadline of Trio has passed."""
    return trio.lowlevel.current_statistics().seconds_to_next_deadline <= 0


def epoll_watching(number: int) -> int | None:
    """Find the one epoll set of this process that watches a descriptor."""
    found = []
    try:
        for info in FDINFO.iterdir():
            try:
                lines = info.read_text().splitlines()
            except OSError:  # closed meanwhile, as the descriptor of this folder is
                continue
            for line in lines:
                name, _, value = line.partition(":")
                if name == "tfd" and int(value.split()[0]) == number:
                    found.append(int(info.name))
    except OSError:
        return None
    return found[0] if len(found) == 1 else None


# -- the self-test -----------------------------------------------------------------------------


class _PassedError(Exception):
    """Ends a self-test that found everything as it should be."""


class _Rehearsal:
    """Stands for the poller in a self-test: something happens in each wait, a few times."""

    trio_ready = False

    def __init__(self) -> None:
        self.waits = 0

    def watch_external(self, number: int) -> None:
        """Do not watch Trio's epoll set: no wait takes any time."""

    def poll_once(self, most: int) -> int:
        """There is nothing to serve."""
        return 0

    def run_until(self, seconds: float) -> bool:
        """Return at once. Raises `_PassedError` after the last wake-up has reached Trio."""
        self.waits += 1
        if self.waits > _WAKE_UPS:
            raise _PassedError
        return True


@functools.cache
def self_test() -> str:
    """Try what this file relies on; returns what is missing, empty if nothing is."""
    rehearsal = _Rehearsal()
    hook = TrioWait(rehearsal)
    outcome: list[str] = []

    def attempt() -> None:
        try:
            outcome.append(trio.run(hook.run_untested))
        except _PassedError:
            outcome.append("")
        except (trio.TrioInternalError, TimeoutError):
            outcome.append(NOT_IGNORED if rehearsal.waits else NOT_CALLED)

    thread = threading.Thread(target=attempt, name="trio_wait.self_test", daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if thread.is_alive():  # a wake-up did not reach Trio, or Trio was never asked to wait
        with contextlib.suppress(OSError):  # it has not even begun
            hook.fail(TimeoutError())
        thread.join(PROBE_SECONDS)
    return outcome[0] if outcome else NOT_CALLED
