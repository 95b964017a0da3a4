"""Detects processes that no longer respond, for the supervisor.

Every process has a heartbeat (`heartbeat`), counted in its column of the shared counters. Once a
second the supervisor checks all of them (`check`). A process without a heartbeat for `MISSED`
seconds is unresponsive. This is logged, with the line at which its event loop is blocked, and
written to its column, so that the other processes do not wait for it. After `timeout` seconds it is
to be killed.

Only time in which the supervisor itself ran counts, at most `INTERVAL` between two checks. So no
process is killed after a pause of the machine, or of the whole group of processes.

The process writes its own stack: `faulthandler` does this in a signal handler, even while Python
code loops or blocks. The stack goes to a bounded file in memory, which the supervisor reads at its
next check. A stopped process cannot write it; its state is read from /proc instead.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import logging
import os
import re
import signal
from typing import TYPE_CHECKING

from trio_gw.supervision.shared_memory import Slot

if TYPE_CHECKING:
    from trio_gw.supervision.shared_memory import Counters

log = logging.getLogger("trio_gw.watchdog")

INTERVAL = 1.0  # seconds between two checks
MISSED = 3.0  # seconds without a heartbeat
STACK = signal.SIGRTMIN + 7  # makes a process write its stack
BYTES = 16 << 10  # of a stack
FRAMES = 20  # of it that are logged
_FRAME = re.compile(rb'(?m)^ *File "([^"\n]*)", line (\d+) in (.*)$')
_STATES = {
    "T": "it is stopped, by a signal such as SIGSTOP",
    "t": "it is stopped by a debugger",
    "D": "it waits for a device, such as a disk or a network file system",
}


class _WatchedProcess:
    """The state of one process, at its index."""

    def __init__(self) -> None:
        self.pid = 0
        self.beats = 0
        self.silence = 0.0  # seconds
        self.asked = False  # for its stack
        self.killed = False
        self.file = -1  # with its stack


class Watchdog:
    """Watches the processes of a supervisor. One is to be killed after `timeout` seconds; 0: never.

    The supervisor calls all methods except `init_child`.
    """

    def __init__(
        self,
        counters: Counters,
        timeout: float,
        *,
        missed: float = MISSED,
        interval: float = INTERVAL,
    ) -> None:
        self.interval = interval
        self._counters = counters
        self._timeout = timeout
        self._missed = missed
        self._watched = [_WatchedProcess() for _ in range(counters.processes)]
        self._looked = 0.0

    def begin(self, now: float) -> None:
        """Prepare, before any process is forked. All times are of a monotonic clock."""
        self._looked = now
        # The default action would kill a process that has no handler yet.
        signal.signal(STACK, signal.SIG_IGN)
        for one in self._watched:
            one.file = os.memfd_create("trio-gw-stack", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(one.file, BYTES)
            fcntl.fcntl(one.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)

    def close(self) -> None:
        """Close the files."""
        for one in self._watched:
            if one.file >= 0:
                os.close(one.file)
                one.file = -1

    def init_child(self, index: int) -> None:
        """Prepare a child to be watched. Called in the child."""
        for place, one in enumerate(self._watched):
            if place == index:
                # This thread only: it is not safe to read the stacks of running threads.
                faulthandler.register(STACK, one.file, all_threads=False)
            else:
                os.close(one.file)

    def started(self, index: int, pid: int) -> None:
        """Start to watch a process that was forked now."""
        one = self._watched[index]
        one.pid, one.silence, one.asked, one.killed = pid, 0.0, False, False
        one.beats = self._counters.column(index)[Slot.BEATS]

    def ended(self, index: int) -> None:
        """Stop to watch a process."""
        self._watched[index].pid = 0

    def check(self, now: float) -> list[int]:
        """Check all processes; return the indices of those to be killed now."""
        awake = min(max(0.0, now - self._looked), self.interval)
        self._looked = now
        return [
            index
            for index, one in enumerate(self._watched)
            if one.pid and self._hangs(index, one, awake)
        ]

    def _hangs(self, index: int, one: _WatchedProcess, awake: float) -> bool:
        column = self._counters.column(index)
        name = f"process {index + 1} (pid {one.pid})"
        if (beats := column[Slot.BEATS]) != one.beats:
            if column[Slot.SILENT] and not one.killed:
                log.warning("%s responds again, after %.0f s", name, one.silence)
            column[Slot.SILENT] = 0
            one.beats, one.silence, one.asked = beats, 0.0, False
            return False
        one.silence += awake
        if one.silence < self._missed:
            return False
        if one.asked:
            one.asked = False
            log.error("%s: %s", name, self._stack(one))
        if not column[Slot.SILENT]:
            self._notice(name, one)
        column[Slot.SILENT] = max(1, int(one.silence))
        if one.killed or not self._timeout or one.silence < self._timeout:
            return False
        one.killed = True
        column[Slot.KILLED] += 1
        log.error("%s has not responded for %.0f s: killed", name, one.silence)
        return True

    def _notice(self, name: str, one: _WatchedProcess) -> None:
        """Log that a process does not respond, and the reason if it is known."""
        state = _STATES.get(_state(one.pid), "")
        then = f"it is killed after {self._timeout:.0f} s" if self._timeout else "it is left alone"
        why = f": {state}" if state else ""
        log.error("%s has not responded for %.0f s%s; %s", name, one.silence, why, then)
        if not state.startswith("it is stopped"):
            os.pwrite(one.file, bytes(BYTES), 0)
            os.lseek(one.file, 0, os.SEEK_SET)  # the process writes at this offset
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, STACK)
            one.asked = True

    def _stack(self, one: _WatchedProcess) -> str:
        """Return its stack in one line, the innermost call first."""
        frames = _FRAME.findall(os.pread(one.file, BYTES, 0))
        if not frames:
            return "the line at which its event loop is blocked is not known"
        calls = [
            f"{function.decode('utf-8', 'replace')} ({file.decode('utf-8', 'replace')}:{int(line)})"
            for file, line, function in frames[:FRAMES]
        ]
        return f"its event loop is blocked in {', called by '.join(calls)}"


def _state(pid: int) -> str:
    """Return the state of a process as proc(5) names it; empty if it is not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""
