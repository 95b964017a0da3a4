"""State that the worker processes of one gateway share, in shared memory.

All workers accept from the same listening sockets, which are bound before the fork. So if a worker
dies, only its own connections are lost: the others accept what waits in the queue. With one socket
per worker (SO_REUSEPORT) that queue would wait until the worker is restarted. Also, the kernel then
distributes connections by a hash of their addresses, which leaves the workers unbalanced while
there are few connections, and permanently if some stay and others leave.

Instead, `accept_turn` balances the workers. A worker accepts at once if it has at most a few more
connections than the least loaded worker (2, or 2 % of them). Otherwise it leaves a waiting
connection to the others and checks again every millisecond. After `ACCEPT_WAIT` it accepts the
connection anyway, and for the next second it waits only `SHORT_WAIT`, because the less loaded
workers are probably busy or stuck. Only open connections count, so a worker that has lost many gets
the next ones.

Readiness also depends on all workers (`is_converged`).

Nobody waits for a worker that hangs after the supervisor has noticed it (`watchdog`): it counts as
if it had ended.
"""

from __future__ import annotations

import enum
import functools
import operator
import select
import time
from typing import TYPE_CHECKING

import trio

from trio_gw.supervision.background import task_names
from trio_gw.supervision.shared_memory import Counters, Slot

if TYPE_CHECKING:
    import socket

    from trio_gw.routing.live import Live
    from trio_gw.supervision.shared_memory import Pages

ACCEPT_WAIT = 0.2  # seconds to leave a connection to workers that have fewer
SHORT_WAITS_FOR = 1.0  # seconds of short waits after a full wait without effect
SHORT_WAIT = 0.005  # seconds
POLL_INTERVAL = 0.001  # seconds
SLACK, SLACK_PART = 2, 50  # allowed lead over the least loaded worker: 2 connections, or 1/50
CONVERGE_TIMEOUT = 2.0  # seconds `/ready` waits until all serve the same table
_CONVERGE_INTERVAL = 0.02
_TABLE_DIGITS = 15  # hexadecimal digits that fit into 63 bits


class WorkerState(enum.IntEnum):
    """State of a worker. Only a missing worker is not waited for: the others do its work."""

    ABSENT = 0  # has never been ready, and accepts nothing
    STARTING = 1  # accepts connections, but has not read the projects yet
    READY = 2
    DRAINING = 3
    MISSING = 4  # was ready once, and is being replaced


class _ConnectionCount:
    """A context manager that counts active contexts. One object is enough for all."""

    __slots__ = ("_own",)

    def __init__(self, own: memoryview) -> None:
        self._own = own

    def __enter__(self) -> None:
        self._own[Slot.OPEN] += 1
        self._own[Slot.ACCEPTED] += 1

    def __exit__(self, *_: object) -> None:
        self._own[Slot.OPEN] -= 1


class SharedState:
    """The state of all workers, seen by the worker with this `index`."""

    def __init__(
        self,
        counters: Counters | None = None,
        index: int = 0,
        pages: Pages | None = None,
        started: float | None = None,
    ) -> None:
        """Attach as the worker with this `index`; `pages` are for its metrics.

        `started` is the start of the gateway in epoch seconds; default: now.
        """
        self.index = index
        self.started = time.time() if started is None else started
        self.pages = pages
        self._counters = counters or Counters(1)
        self._own = self._counters.column(index)
        self._connection_count = _ConnectionCount(self._own)
        self._alone = self._counters.processes == 1
        self._short_waits_until = 0.0  # the others did not accept what was left to them
        # A replacement accepts nothing before it is ready: the other workers do.
        self.is_replacement = self._own[Slot.STATE] == WorkerState.MISSING

    @property
    def alone(self) -> bool:
        """Whether there is only one process."""
        return self._alone

    @property
    def state(self) -> WorkerState:
        """The state of this worker."""
        return WorkerState(self._own[Slot.STATE])

    @state.setter
    def state(self, state: WorkerState) -> None:
        self._own[Slot.STATE] = state

    def set_table(self, digest: str) -> None:
        """Publish the (hexadecimal) digest of the table that this worker serves."""
        self._own[Slot.TABLE] = int(digest[:_TABLE_DIGITS], 16)

    def set_failing(self, parts: int) -> None:
        """Publish which background parts of this worker fail, one bit for each."""
        self._own[Slot.FAILING] = parts

    def failing(self) -> list[str]:
        """List the background tasks that fail in any worker."""
        return task_names(functools.reduce(operator.or_, self._counters.row(Slot.FAILING)))

    async def publish_table(self, live: Live) -> None:
        """Publish the digest of the current table after each change. Runs until cancelled."""
        while True:
            self.set_table(live.table.digest)
            await live.wait_changed()

    def states(self) -> list[WorkerState]:
        """Return the state of each worker. An unresponsive worker counts as ended."""
        return [WorkerState(value) for value in self._states()]

    def _states(self) -> list[int]:
        states, silent = self._counters.row(Slot.STATE), self._counters.row(Slot.SILENT)
        if any(silent):
            for index, seconds in enumerate(silent):
                if seconds and index != self.index:
                    states[index] = _state_after_exit(states[index])
        return states

    def beat(self) -> None:
        """Count a heartbeat of the event loop of this worker."""
        self._own[Slot.BEATS] += 1

    def unresponsive(self) -> list[int]:
        """Return the numbers of the other workers that do not respond; the first is 1."""
        silent = enumerate(self._counters.row(Slot.SILENT))
        return [index + 1 for index, seconds in silent if seconds and index != self.index]

    def silent_seconds(self) -> list[tuple[int, int]]:
        """Return for each worker how many seconds it has not responded.

        The second value is the number of workers that were killed for that reason.
        """
        rows = (self._counters.row(slot) for slot in (Slot.SILENT, Slot.KILLED))
        return list(zip(*rows, strict=True))

    def clients(self) -> list[tuple[int, int]]:
        """Return the number of open and of accepted connections of each worker.

        A restarted worker begins with 0.
        """
        rows = (self._counters.row(slot) for slot in (Slot.OPEN, Slot.ACCEPTED))
        return list(zip(*rows, strict=True))

    def memory(self, own: int) -> int:
        """Publish the memory of this worker; returns that of all workers (bytes)."""
        self._own[Slot.MEMORY] = own
        return sum(self._counters.row(Slot.MEMORY))

    def count_connection(self) -> _ConnectionCount:
        """Count a connection while the context is active."""
        return self._connection_count

    # -- balanced accepting --------------------------------------------------------------------

    async def accept_turn(self, sock: socket.socket) -> None:
        """Wait until this worker should try to accept from a listening socket."""
        if self._alone or self._is_next():
            return
        waits = select.poll()
        waits.register(sock, select.POLLIN)
        short_waits = trio.current_time() < self._short_waits_until
        with trio.move_on_after(SHORT_WAIT if short_waits else ACCEPT_WAIT) as waited:
            while not self._is_next() and waits.poll(0):  # noqa: ASYNC110 - other processes set no event
                await trio.sleep(POLL_INTERVAL)
        if waited.cancelled_caught and not short_waits:
            self._short_waits_until = trio.current_time() + SHORT_WAITS_FOR

    def _is_next(self) -> bool:
        least = min(self._of((WorkerState.STARTING, WorkerState.READY), Slot.OPEN), default=0)
        return self._own[Slot.OPEN] <= least + max(SLACK, least // SLACK_PART)

    # -- readiness -----------------------------------------------------------------------------

    async def is_converged(self) -> bool:
        """Whether all workers are ready and serve the same table.

        Workers apply a change of the projects a moment apart. For that reason, and only for it,
        this waits a little: no client is refused because of it.
        """
        if not self._all_ready():
            return False
        with trio.move_on_after(CONVERGE_TIMEOUT):
            while len(self._tables()) > 1:  # noqa: ASYNC110
                await trio.sleep(_CONVERGE_INTERVAL)
        return self._all_ready() and len(self._tables()) == 1

    async def wait_converged(self) -> None:
        """Wait until all workers that serve, or are about to, have the same table.

        A worker that is being replaced reads the table when it starts. The caller sets the time
        limit.
        """
        serving = WorkerState.STARTING, WorkerState.READY
        while len(set(self._of(serving, Slot.TABLE))) > 1:  # noqa: ASYNC110
            await trio.sleep(_CONVERGE_INTERVAL)

    def _all_ready(self) -> bool:
        states = self._states()
        return WorkerState.READY in states and set(states) <= {
            WorkerState.READY,
            WorkerState.MISSING,
        }

    def _tables(self) -> set[int]:
        return set(self._of((WorkerState.READY,), Slot.TABLE))

    def _of(self, states: tuple[WorkerState, ...], slot: Slot) -> list[int]:
        """Read a slot of the workers in one of these states."""
        rows = zip(self._counters.row(slot), self._states(), strict=True)
        return [value for value, state in rows if state in states]


def _state_after_exit(state: int) -> WorkerState:
    """Return the state of a worker after its exit."""
    never_ready = state in (WorkerState.ABSENT, WorkerState.STARTING)
    return WorkerState.ABSENT if never_ready else WorkerState.MISSING


def mark_dead(counters: Counters, index: int) -> None:
    """Record that a worker has ended. Called by the supervisor, now the only writer."""
    column = counters.column(index)
    left, killed = _state_after_exit(column[Slot.STATE]), column[Slot.KILLED]
    counters.clear(index)
    column[Slot.STATE], column[Slot.KILLED] = left, killed
