"""Runs the same function in several child processes and keeps them running.

`supervise` forks `count` children and waits. It does not depend on what the children do. It has no
event loop and no threads, so it can fork at any time. Everything that the children need must be
open before the first fork.

* A child that ends is forked again: at once the first time, then after a pause that doubles. After
  `SETTLED` seconds of running, a child counts as new. If no child has ever run that long, and one
  child fails `GIVE_UP` times in a row, the supervisor stops all children and gives up.
* SIGTERM and SIGINT stop all children; the second signal stops them at once. The supervisor asks a
  child by a byte on a pipe, not by a signal: a terminal sends Ctrl-C to all processes, and systemd
  sends its SIGTERM to all, so a child could not distinguish one request from two. See `StopPipe`.
* The pipe ends when the supervisor ends, whatever killed it. So no child outlives it for long.
* A child that does not respond is killed when the `watchdog`, if there is one, says so.
* SIGHUP is passed on. It is blocked in a child until the child unblocks it.
* All processes that end are reaped. If the supervisor is the first process of a container, these
  include the orphans of its children.

Signals are blocked and fetched one by one, so no handler interrupts the code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.supervision.watchdog import Watchdog

log = logging.getLogger("trio_gw.supervisor")
SETTLED = 10.0  # seconds of running after which a child counts as working
FIRST_PAUSE, LONGEST_PAUSE = (
    0.1,
    10.0,
)  # seconds before a child that failed more than once is forked
GIVE_UP = 5  # failures in a row of one child, before any child has ever settled
STOP = b"s"  # the first byte: stop; the second byte: stop at once
_SIGNALS = frozenset((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


class StopPipe(NamedTuple):
    """A pipe that a child reads. Each byte is a request to stop; so is the end of the pipe."""

    descriptor: int


class _Child:
    """One child: its index, which stays, and the process that runs now."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid = 0  # 0 if no process runs
        self.stop_pipe = -1  # the end that the supervisor writes to
        self.born = 0.0
        self.due = 0.0  # when to fork, if no process runs
        self.failures = 0  # in a row


class Supervisor:
    """Runs `child(index, stop_pipe)` in `count` processes; its result is their exit code.

    `on_exit(index)` is called after a child was reaped, `on_stop()` before the children are asked
    to stop, `on_reload()` before SIGHUP is passed on to them. After a request to stop, the children
    have `kill_timeout` seconds before they are killed. The `watchdog` has counters for as many
    processes.
    """

    def __init__(
        self,
        count: int,
        child: Callable[[int, StopPipe], int],
        *,
        on_exit: Callable[[int], None] = lambda index: None,
        on_stop: Callable[[], None] = lambda: None,
        on_reload: Callable[[], None] = lambda: None,
        kill_timeout: float = 30.0,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._run = child
        self._children = [_Child(index) for index in range(count)]
        self._on_exit = on_exit
        self._on_stop = on_stop
        self._on_reload = on_reload
        self._kill_timeout = kill_timeout
        self._watchdog = watchdog
        self._stop_requests = 0
        self._kill_at = 0.0
        self._code = 0
        self._proven = False  # one child has settled: the program works

    def supervise(self) -> int:
        """Fork the children and keep them running. Return 0 after they stopped, 1 after giving up.

        Returns in the parent only. Call it while the process has one thread.
        """
        usual = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if self._watchdog is not None:
            self._watchdog.begin(time.monotonic())
        try:
            while True:
                now = time.monotonic()
                if self._stop_requests == 0:
                    self._settle(now)
                    self._check_watchdog(now)
                    self._fork_due(now, usual)
                elif not any(child.pid for child in self._children):
                    return self._code
                elif now >= self._kill_at:
                    self._kill()
                self._take(signal.sigtimedwait(_SIGNALS, self._pause(now)))
        finally:
            # A child still runs here only after a bug.
            self._kill()
            if self._watchdog is not None:
                self._watchdog.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, usual)

    def _pause(self, now: float) -> float:
        """Return the seconds until something must be done without a signal."""
        if self._stop_requests:
            return max(0.01, self._kill_at - now)
        times = [child.due - now for child in self._children if not child.pid]
        if not self._proven:
            times += [child.born + SETTLED - now for child in self._children if child.pid]
        if self._watchdog is not None:
            times.append(self._watchdog.interval)
        return max(0.0, min(times, default=3600.0))

    def _settle(self, now: float) -> None:
        self._proven = self._proven or any(
            child.pid and now - child.born >= SETTLED for child in self._children
        )

    def _check_watchdog(self, now: float) -> None:
        for index in () if self._watchdog is None else self._watchdog.check(now):
            os.kill(self._children[index].pid, signal.SIGKILL)

    # -- forking -------------------------------------------------------------------------------

    def _fork_due(self, now: float, usual: set[int | signal.Signals]) -> None:
        for child in self._children:
            if not child.pid and child.due <= now:
                self._fork(child, now, usual)

    def _fork(self, child: _Child, now: float, usual: set[int | signal.Signals]) -> None:
        theirs, ours = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(theirs)
            os.close(ours)
            child.due = now + LONGEST_PAUSE
            log.error("cannot start process %d: %s", child.index + 1, error.strerror)
            return
        if pid == 0:
            self._be_child(child, StopPipe(theirs), ours, usual)
        os.close(theirs)
        child.pid, child.stop_pipe, child.born = pid, ours, now
        if self._watchdog is not None:
            self._watchdog.started(child.index, pid)
        log.info("process %d started (pid %d)", child.index + 1, pid)

    def _be_child(
        self, child: _Child, stop_pipe: StopPipe, ours: int, usual: set[int | signal.Signals]
    ) -> None:
        """Run the code of the child; never returns."""
        code = 70  # EX_SOFTWARE: a bug
        try:
            # If a sibling kept the other end, the pipe would not end with the supervisor.
            for descriptor in (ours, *(other.stop_pipe for other in self._children)):
                if descriptor >= 0:
                    os.close(descriptor)
            for signum in _SIGNALS:
                signal.signal(signum, signal.SIG_DFL)
            if self._watchdog is not None:
                self._watchdog.init_child(child.index)
            # A terminal sends SIGINT to all; the supervisor asks the children to stop.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # A SIGHUP that comes early stays pending until the child unblocks it.
            signal.pthread_sigmask(signal.SIG_SETMASK, usual | {signal.SIGHUP})
            code = self._run(child.index, stop_pipe)
        except Exception:
            log.critical("process %d failed", child.index + 1, exc_info=True)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    # -- signals -------------------------------------------------------------------------------

    def _take(self, info: signal.struct_siginfo | None) -> None:
        """React to a signal; None means that the pause ended without one."""
        self._reap()  # after other signals too: several SIGCHLD may have been merged
        if info is None:
            return
        if info.si_signo in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif info.si_signo == signal.SIGHUP:
            self._on_reload()
            for child in self._children:
                if child.pid:
                    os.kill(child.pid, signal.SIGHUP)

    def _stop(self) -> None:
        if self._stop_requests == 0:
            self._on_stop()
        self._stop_requests += 1
        self._kill_at = time.monotonic() + (self._kill_timeout if self._stop_requests == 1 else 5.0)
        for child in self._children:
            if child.pid:
                with contextlib.suppress(BrokenPipeError):
                    os.write(child.stop_pipe, STOP)

    def _kill(self) -> None:
        for child in self._children:
            if child.pid:
                log.error("process %d (pid %d) does not stop: killed", child.index + 1, child.pid)
                os.kill(child.pid, signal.SIGKILL)
        self._kill_at = time.monotonic() + 5.0

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    self._on_child_exit(child, status)

    def _on_child_exit(self, child: _Child, status: int) -> None:
        now = time.monotonic()
        how = os.waitstatus_to_exitcode(status)
        pid, child.pid = child.pid, 0
        os.close(child.stop_pipe)
        child.stop_pipe = -1
        if self._watchdog is not None:
            self._watchdog.ended(child.index)
        self._on_exit(child.index)
        if self._stop_requests:
            log.info("process %d (pid %d) has stopped", child.index + 1, pid)
            return
        lived = now - child.born
        child.failures = 1 if lived >= SETTLED else child.failures + 1
        why = f"was killed by {_name(-how)}" if how < 0 else f"ended with code {how}"
        if child.failures >= GIVE_UP and not self._proven:
            log.critical(
                "process %d %s, for the %dth time in a row: giving up",
                child.index + 1,
                why,
                GIVE_UP,
            )
            self._code = 1
            self._stop()
            return
        pause = 0.0
        if child.failures > 1:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (child.failures - 2))
        child.due = now + pause
        log.error(
            "process %d (pid %d) %s after %.1f s; starting it again in %.1f s",
            child.index + 1,
            pid,
            why,
            lived,
            pause,
        )


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
