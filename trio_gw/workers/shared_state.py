"""What the worker processes of one gateway know of each other, through shared counters.

All of them accept from the same listening sockets, bound before they were forked. So a worker
that dies takes nothing along but its own connections: what waits to be accepted is accepted by
the others, at once. With a socket for each worker (SO_REUSEPORT) that queue would have to wait
until it is started again; and the kernel deals by a hash of the addresses, which leaves workers
far apart while connections are few, and for ever when some of them stay and others leave.

`accept_turn` keeps them together instead. A worker accepts at once while it has no more connections
than the least loaded one, and a little slack: 2, or 2 % of them. Otherwise it leaves a waiting
connection to the others, and looks again every millisecond; after `ACCEPT_WAIT` it takes it anyway,
and for a second has little patience, for those who have less must be busy or stuck. What counts
are connections that are open, so a worker that lost many of them gets the next ones.

Readiness is about all of them, too (`is_converged`).

Nobody waits for a worker that hangs, once the supervisor has noticed (`watchdog`): it counts as if
it had ended.
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

    from trio_gw.routing.table import Live
    from trio_gw.supervision.shared_memory import Pages

ACCEPT_WAIT = 0.2  # seconds for which a connection is left to workers that have fewer
SHORT_WAITS_FOR = 1.0  # seconds for which waits are short, after a full wait was in vain
SHORT_WAIT = 0.005  # seconds
POLL_INTERVAL = 0.001  # seconds between two looks at them
SLACK, SLACK_PART = 2, 50  # connections more than the least loaded one: 2, or a fiftieth
CONVERGE_TIMEOUT = 2.0  # seconds for which `/ready` waits until all serve the same table
_CONVERGE_INTERVAL = 0.02
_TABLE_DIGITS = 15  # hexadecimal: what fits into an integer of 63 bits


class WorkerState(enum.IntEnum):
    """Where a worker is. Only one that is missing is not waited for: the others do its work."""

    ABSENT = 0  # it has never been ready, and accepts nobody
    STARTING = 1  # it accepts connections, and has not read the projects yet
    READY = 2
    DRAINING = 3
    MISSING = 4  # it was ready once, and is being replaced


class _ConnectionCount:
    """A context that counts who is in it. It keeps nothing else, so one is enough for all."""

    __slots__ = ("_own",)

    def __init__(self, own: memoryview) -> None:
        self._own = own

    def __enter__(self) -> None:
        self._own[Slot.OPEN] += 1
        self._own[Slot.ACCEPTED] += 1

    def __exit__(self, *_: object) -> None:
        self._own[Slot.OPEN] -= 1


class SharedState:
    """All workers, as seen by the one with this `index`."""

    def __init__(
        self,
        counters: Counters | None = None,
        index: int = 0,
        pages: Pages | None = None,
        started: float | None = None,
    ) -> None:
        """Take part as the worker with this `index`; `pages` are for its metrics.

        `started` is when the gateway was, in epoch seconds; now if there is nobody else.
        """
        self.index = index
        self.started = time.time() if started is None else started
        self.pages = pages
        self._counters = counters or Counters(1)
        self._own = self._counters.column(index)
        self._connection_count = _ConnectionCount(self._own)
        self._alone = self._counters.processes == 1
        self._short_waits_until = 0.0  # the others did not take what was left to them
        # A replacement serves nobody before it is ready: the others are, so it can wait.
        self.is_replacement = self._own[Slot.STATE] == WorkerState.MISSING

    @property
    def alone(self) -> bool:
        """Tell whether there is one process only."""
        return self._alone

    @property
    def state(self) -> WorkerState:
        """The state of this worker."""
        return WorkerState(self._own[Slot.STATE])

    @state.setter
    def state(self, state: WorkerState) -> None:
        self._own[Slot.STATE] = state

    def set_table(self, digest: str) -> None:
        """Note the (hexadecimal) digest of the table that this worker serves from now on."""
        self._own[Slot.TABLE] = int(digest[:_TABLE_DIGITS], 16)

    def set_failing(self, parts: int) -> None:
        """Note which background parts of this worker fail, a bit for each."""
        self._own[Slot.FAILING] = parts

    def failing(self) -> list[str]:
        """Name the background parts that fail in any worker."""
        return task_names(functools.reduce(operator.or_, self._counters.row(Slot.FAILING)))

    async def publish_table(self, live: Live) -> None:
        """Let the other workers know which table this one serves. Runs until cancelled."""
        while True:
            self.set_table(live.table.digest)
            await live.wait_changed()

    def states(self) -> list[WorkerState]:
        """Tell where each worker is; one that does not respond is nowhere."""
        return [WorkerState(value) for value in self._states()]

    def _states(self) -> list[int]:
        states, silent = self._counters.row(Slot.STATE), self._counters.row(Slot.SILENT)
        if any(silent):
            for index, seconds in enumerate(silent):
                if seconds and index != self.index:
                    states[index] = _state_after_exit(states[index])
        return states

    def beat(self) -> None:
        """Show that the event loop of this worker runs."""
        self._own[Slot.BEATS] += 1

    def unresponsive(self) -> list[int]:
        """Number the other workers that do not respond; the first is 1."""
        silent = enumerate(self._counters.row(Slot.SILENT))
        return [index + 1 for index, seconds in silent if seconds and index != self.index]

    def silent_seconds(self) -> list[tuple[int, int]]:
        """Tell of each worker for how many seconds it has not responded.

        It comes with how many were killed in its place because of that.
        """
        rows = (self._counters.row(slot) for slot in (Slot.SILENT, Slot.KILLED))
        return list(zip(*rows, strict=True))

    def clients(self) -> list[tuple[int, int]]:
        """Tell of each worker how many clients it has, and how many it has ever accepted.

        One that was started again has accepted none before.
        """
        rows = (self._counters.row(slot) for slot in (Slot.OPEN, Slot.ACCEPTED))
        return list(zip(*rows, strict=True))

    def memory(self, own: int) -> int:
        """Note the memory of this worker; returns that of all (bytes)."""
        self._own[Slot.MEMORY] = own
        return sum(self._counters.row(Slot.MEMORY))

    def count_connection(self) -> _ConnectionCount:
        """Count a connection, from its acceptance to its end."""
        return self._connection_count

    # -- whose turn it is ----------------------------------------------------------------------

    async def accept_turn(self, sock: socket.socket) -> None:
        """Return when this worker should try to accept what waits at a listening socket."""
        if self._alone or self._is_next():
            return
        waits = select.poll()
        waits.register(sock, select.POLLIN)
        short_waits = trio.current_time() < self._short_waits_until
        with trio.move_on_after(SHORT_WAIT if short_waits else ACCEPT_WAIT) as waited:
            while not self._is_next() and waits.poll(0):  # noqa: ASYNC110 - others set no event
                await trio.sleep(POLL_INTERVAL)
        if waited.cancelled_caught and not short_waits:
            self._short_waits_until = trio.current_time() + SHORT_WAITS_FOR

    def _is_next(self) -> bool:
        least = min(self._of((WorkerState.STARTING, WorkerState.READY), Slot.OPEN), default=0)
        return self._own[Slot.OPEN] <= least + max(SLACK, least // SLACK_PART)

    # -- readiness -----------------------------------------------------------------------------

    async def is_converged(self) -> bool:
        """Tell whether all workers are ready, with the same table.

        A change of the projects reaches them within a moment of each other, so for that they are
        waited for, and only for that: nobody is turned away because of it.
        """
        if not self._all_ready():
            return False
        with trio.move_on_after(CONVERGE_TIMEOUT):
            while len(self._tables()) > 1:  # noqa: ASYNC110
                await trio.sleep(_CONVERGE_INTERVAL)
        return self._all_ready() and len(self._tables()) == 1

    async def wait_converged(self) -> None:
        """Return when all workers that serve, or are about to, have the same table.

        One that is being replaced reads it when it is back. It is for the caller to be patient.
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
        """Read a slot of the workers that are in one of these states."""
        rows = zip(self._counters.row(slot), self._states(), strict=True)
        return [value for value, state in rows if state in states]


def _state_after_exit(state: int) -> WorkerState:
    """Say where a worker is when it has ended."""
    never_ready = state in (WorkerState.ABSENT, WorkerState.STARTING)
    return WorkerState.ABSENT if never_ready else WorkerState.MISSING


def mark_dead(counters: Counters, index: int) -> None:
    """Note that a worker has ended; for the supervisor, the only one left to write this."""
    column = counters.column(index)
    left, killed = _state_after_exit(column[Slot.STATE]), column[Slot.KILLED]
    counters.clear(index)
    column[Slot.STATE], column[Slot.KILLED] = left, killed
