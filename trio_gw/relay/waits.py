"""Waiting for sockets and deadlines at low cost.

Trio registers a socket anew for every wait, and a deadline takes a cancel scope. In a handshake,
where each socket is waited for once or twice, both cost more than everything between the waits.
Here the epoll set of the fast path (`relay.tunnel`) and one heap of deadlines serve all waiting
tasks. A task is woken with the reason (`Woken`). When a waiting task is cancelled, its wait is
removed.

Streams without a plain socket wait with Trio, and so does everything while the fast path is not
served.
"""

from __future__ import annotations

import enum
import heapq
import math
import select
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.relay.epoll_loop import Poller

STALE = 1000  # deadlines of finished waits that may stay in the heap


class Woken(enum.Enum):
    """Why a task was woken."""

    READY = enum.auto()  # something to read, an end, or an error
    TIMED_OUT = enum.auto()  # the deadline has passed
    HUNG_UP = enum.auto()  # the peer on whose behalf it waited has closed


class _Wait:
    """One waiting task."""

    __slots__ = ("due", "fd", "over", "peer", "task", "waits", "woken")

    def __init__(self, waits: Waits, fd: int, due: float, peer: int) -> None:
        self.waits = waits
        self.fd = fd
        self.due = due
        self.peer = peer
        self.over = False
        self.woken = Woken.READY
        self.task = trio.lowlevel.current_task()

    def __lt__(self, other: _Wait) -> bool:
        return self.due < other.due

    def ready(self) -> None:
        self.wake(Woken.READY)

    def hung_up(self) -> None:
        self.wake(Woken.HUNG_UP)

    def wake(self, why: Woken) -> None:
        if self.over:  # woken already
            return
        self.woken = why
        self.end()
        trio.lowlevel.reschedule(self.task)

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """End the wait because its task was cancelled."""
        self.end()
        return trio.lowlevel.Abort.SUCCEEDED

    def end(self) -> None:
        self.over = True
        self.waits.unwatch(self.fd)
        if self.peer >= 0:
            self.waits.unwatch(self.peer)


class Waits:
    """All waits of one process. `run` watches the deadlines.

    `poller` is set while the fast path is served, `running` while deadlines are watched.
    """

    def __init__(self) -> None:
        self.poller: Poller | None = None
        self.running = False
        self._waiting = 0
        self._due: list[_Wait] = []
        self._next = -math.inf  # when `run` checks again
        self._sleep = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake the tasks whose deadline has passed, until cancelled."""
        self.running = True
        try:
            task_status.started()
            await self._keep_time()
        finally:
            self.running = False

    async def _keep_time(self) -> None:
        while True:
            now = trio.current_time()
            due = self._due
            while due and (due[0].over or due[0].due <= now):
                wait = heapq.heappop(due)
                if not wait.over:
                    wait.wake(Woken.TIMED_OUT)
            self._next = due[0].due if due else math.inf
            with trio.CancelScope(deadline=self._next) as self._sleep:
                await trio.sleep_forever()

    def watch(self, fd: int, interest: int, call: Callable[[], None]) -> bool:
        """Call when a socket is ready, until `unwatch` is called, which has to be soon.

        Returns False if the poller or the socket is closed, or the kernel's limit is reached. One
        descriptor can be watched once only.
        """
        poller = self.poller
        if poller is None or fd < 0:
            return False
        try:
            poller.watch(fd, interest, call)
        except (OSError, ValueError):
            return False
        return True

    def unwatch(self, fd: int) -> None:
        """Stop watching a socket. Call this before it is closed or handed on."""
        if (poller := self.poller) is not None:
            try:
                poller.unwatch(fd)
            except OSError:  # it is closed already
                return

    async def readable(
        self,
        fd: int,
        due: float = math.inf,
        peer: int = -1,
        expose: Callable[[Callable[[], None]], None] | None = None,
    ) -> Woken:
        """Wait until a socket has something to read, until `due`, or until a peer closes.

        `due` is a time of Trio's clock. `peer` is the descriptor of the other socket, if there is
        one. `expose` is called with a function that ends the wait early.
        """
        wait = _Wait(self, fd, due, peer)
        if not self.watch(fd, select.EPOLLIN, wait.ready):
            with trio.CancelScope(deadline=due):
                await trio.lowlevel.wait_readable(fd)
                return Woken.READY
            return Woken.TIMED_OUT
        if peer >= 0 and not self.watch(peer, select.EPOLLRDHUP, wait.hung_up):
            wait.peer = -1
        if due < math.inf:
            self._add(wait)
        if expose is not None:
            expose(wait.ready)
        self._waiting += 1
        try:
            await trio.lowlevel.wait_task_rescheduled(wait.abort)
        finally:
            self._waiting -= 1
        return wait.woken

    def _add(self, wait: _Wait) -> None:
        heapq.heappush(self._due, wait)
        if len(self._due) > 2 * self._waiting + STALE:
            self._due = [one for one in self._due if not one.over]
            heapq.heapify(self._due)
        if wait.due < self._next:
            self._next = self._sleep.deadline = wait.due
