"""Delivers analytics events to sinks: for each sink a bounded queue, a task, and retries.

`record` never waits: if a queue is full, it drops the event and counts it. After a failure the same
batch is sent again, after pauses that double; memory is limited by the queue. When the gateway
stops, the batch is sent again at once, and then more often.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

import trio

from trio_gw.supervision.background import BackgroundTasks, TaskName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trio_gw.telemetry.events import Event

log = logging.getLogger("trio_gw.analytics")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a batch is sent again
LINGER = 0.2  # seconds to wait for more events: each batch costs a request or a thread
FLUSH = 5.0  # seconds for the sinks when the gateway stops
QUIET = 60.0  # seconds between two log lines about dropped events


class SinkError(Exception):
    """A batch was not accepted. With `final`, a retry is useless."""

    def __init__(self, what: str, *, final: bool = False) -> None:
        self.final = final
        super().__init__(what)


class Sink(Protocol):
    """The destination of events."""

    async def write(self, batch: Sequence[Event]) -> None:
        """Write a batch, or raise `SinkError`."""

    async def aclose(self) -> None:
        """Release all resources."""


class Analytics:
    """The sinks by name, and their queues. `dropped(name, count)` is called for lost events."""

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        dropped: Callable[[str, int], None],
        *,
        queue: int,
        batch: int,
    ) -> None:
        self._pipes = [_Pipe(name, sink, dropped, queue, batch) for name, sink in sinks.items()]

    def record(self, event: Event) -> None:
        """Put an event into every queue; never waits, never raises."""
        for pipe in self._pipes:
            pipe.put(event)

    async def run(self, background: BackgroundTasks | None = None) -> None:
        """Empty the queues until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for pipe in self._pipes:
                    nursery.start_soon(
                        (background or BackgroundTasks()).keep, TaskName.ANALYTICS, pipe.run
                    )
        finally:
            with trio.move_on_after(1, shield=True):
                for pipe in self._pipes:
                    await pipe.sink.aclose()

    async def flush(self, seconds: float = FLUSH) -> None:
        """Give the sinks so many seconds for the queued events; drop and count the rest."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for pipe in self._pipes:
                    nursery.start_soon(pipe.wait_idle)
        for pipe in self._pipes:
            pipe.give_up()


class _Pipe:
    """One sink and its queue."""

    def __init__(
        self, name: str, sink: Sink, dropped: Callable[[str, int], None], queue: int, batch: int
    ) -> None:
        self._name = name
        self.sink = sink
        self._dropped = dropped
        self._most = queue
        self._batch_size = batch
        self._plenty = min(batch, max(1, queue // 2))  # so many events need not wait for more
        self._waiting: deque[Event] = deque()
        self._batch: list[Event] = []
        self._came = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._enough = trio.Event()  # so many events are queued
        self._hurry = trio.Event()  # the gateway stops
        self._lost = 0  # since the last log line about it
        self._silent_until = 0.0

    def put(self, event: Event) -> None:
        if len(self._waiting) >= self._most:
            self._drop(1, f"its queue of {self._most} is full")
            return
        self._waiting.append(event)
        if self._idle.is_set():
            self._idle = trio.Event()
        self._came.set()
        if len(self._waiting) >= self._plenty:
            self._enough.set()

    def _drop(self, count: int, why: str) -> None:
        self._lost += count
        self._dropped(self._name, count)
        now = trio.current_time()
        if now >= self._silent_until:
            log.error("sink %s: %d events were dropped: %s", self._name, self._lost, why)
            self._lost, self._silent_until = 0, now + QUIET

    async def run(self) -> None:
        while True:
            await self._came.wait()
            if len(self._waiting) < self._plenty and not self._hurry.is_set():
                self._enough = trio.Event()
                with trio.move_on_after(LINGER):
                    await self._enough.wait()
            size = min(self._batch_size, len(self._waiting))
            self._batch = [self._waiting.popleft() for _ in range(size)]
            if self._batch:
                await self._deliver()
            self._batch = []
            if not self._waiting:
                self._came = trio.Event()
                self._idle.set()

    async def _deliver(self) -> None:
        pause = FIRST_PAUSE
        failing = False
        while True:
            try:
                await self.sink.write(self._batch)
            except SinkError as error:
                if error.final:
                    self._drop(len(self._batch), str(error))
                    return
                if not failing:
                    log.error("sink %s: %s; trying again", self._name, error)
                    failing = True
                await self._pause(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            except Exception:
                # Another attempt with this batch could fail for ever.
                self._drop(len(self._batch), "of a fault in the gateway")
                self._batch = []
                raise
            else:
                if failing:
                    log.info("sink %s works again", self._name)
                return

    async def _pause(self, seconds: float) -> None:
        if self._hurry.is_set():
            await trio.sleep(FIRST_PAUSE)
            return
        with trio.move_on_after(seconds):
            await self._hurry.wait()

    async def wait_idle(self) -> None:
        self._hurry.set()
        self._enough.set()
        await self._idle.wait()

    def give_up(self) -> None:
        if left := len(self._waiting) + len(self._batch):
            self._dropped(self._name, left)
            log.error("sink %s: %d events could not be delivered", self._name, left)
            self._waiting.clear()
            self._batch = []
        self._most = 0  # later events are dropped
