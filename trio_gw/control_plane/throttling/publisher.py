"""Publishes the frames of one process to the Traffic Manager.

Each group of receivers has a task, which takes batches from the queue: so groups share the events
by how fast they are. Within a group the first receiver that works is used. A batch that could not
be sent is sent again, to the next receiver of the group. While no receiver works, the queue drops
and counts what does not fit; the traffic never waits. spec: control-plane §8.1.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import trio

from trio_gw.control_plane.status import BrokerStatus, QueueStatus
from trio_gw.control_plane.throttling.receiver import (
    BatchRefusedError,
    LoginRefusedError,
    Receiver,
    ReceiverError,
    receiver_groups,
)

if TYPE_CHECKING:
    import ssl

    from trio_gw.config.control_plane import ThrottlingSettings
    from trio_gw.control_plane.status import ControlPlaneStatus
    from trio_gw.telemetry.frame_queue import FrameQueue

log = logging.getLogger("trio_gw.throttling")

BATCH = 200  # events
SHORTEST, LONGEST = 0.05, 0.25  # seconds between two looks at the queue
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a group is tried again
TRIES = 4  # with one batch, on working receivers
FLUSH = 2.0  # seconds for what is queued when the gateway stops
QUEUE = "throttling"  # the name of the queue in the status


class Publisher:
    """The receivers of one process. `published` and `failed` count events."""

    def __init__(
        self,
        settings: ThrottlingSettings,
        frames: FrameQueue,
        tls: ssl.SSLContext,
        status: ControlPlaneStatus,
    ) -> None:
        self.frames = frames
        self.published = self.failed = 0
        self._status = status
        self._queue = status.queues[QUEUE] = QueueStatus(limit=frames.limit)
        login = settings.username, settings.password
        self._groups = [
            _Group(self, [Receiver(one, *login, tls) for one in group])
            for group in receiver_groups(settings)
        ]
        self._stopping = trio.Event()

    async def run(self) -> None:
        """Publish until cancelled."""
        async with trio.open_nursery() as nursery:
            for group in self._groups:
                nursery.start_soon(group.run)

    async def flush(self) -> None:
        """Give the receivers some seconds for what is queued when the gateway stops."""
        self._stopping.set()
        with trio.move_on_after(FLUSH):
            while self.frames.waiting or any(group.busy for group in self._groups):
                if not any(group.connected for group in self._groups):
                    break
                await trio.sleep(SHORTEST)

    def take(self) -> list[bytes]:
        """Take a batch from the queue."""
        events = self.frames.take(BATCH, int(time.time() * 1000))
        self._show()
        return events

    def add_result(self, published: int = 0, failed: int = 0) -> None:
        """Count the events of a batch."""
        self.published += published
        self.failed += failed
        self._show()

    def _show(self) -> None:
        self._queue.waiting, self._queue.dropped = self.frames.waiting, self.frames.dropped
        self._status.frame_events.update(
            published=self.published, dropped=self.frames.dropped, failed=self.failed
        )

    async def wait(self, seconds: float) -> None:
        """Wait; less when the gateway stops."""
        if self._stopping.is_set():
            await trio.sleep(SHORTEST)
            return
        with trio.move_on_after(seconds):
            await self._stopping.wait()

    def connected(self, broker: BrokerStatus) -> None:
        """Note and log that a receiver works."""
        log.info("events of frames go to the event receiver %s", broker.address)
        self._status.connected(broker)

    def lost(self, broker: BrokerStatus, error: ReceiverError) -> None:
        """Note that a receiver does not work; log it once for each reason."""
        reason = str(error)
        if isinstance(error, LoginRefusedError):
            reason = f"{reason}: check control_plane.throttling.password"
        if broker.connected or broker.reason != reason:
            log.error("the event receiver %s cannot be used: %s", broker.address, reason)
        self._status.lost(broker, reason)

    def add(self, address: str) -> BrokerStatus:
        """Show a receiver in the status."""
        broker = BrokerStatus(address)
        self._status.receivers.append(broker)
        return broker


class _Group:
    """Receivers that replace each other, and the task that sends to them."""

    def __init__(self, publisher: Publisher, receivers: list[Receiver]) -> None:
        self._publisher = publisher
        self._receivers = receivers
        self._brokers = [publisher.add(str(one.addresses.publish)) for one in receivers]
        self._current = 0
        self.busy = False

    @property
    def connected(self) -> bool:
        """Return whether a receiver is connected."""
        return any(receiver.connected for receiver in self._receivers)

    async def run(self) -> None:
        """Send batches until cancelled."""
        try:
            await self._connect()
            pause = SHORTEST
            while True:
                # Small batches would cost more than the traffic itself.
                if self._publisher.frames.waiting < BATCH:
                    await self._publisher.wait(pause)
                if events := self._publisher.take():
                    pause = SHORTEST
                    self.busy = True
                    await self._deliver(events)
                    self.busy = False
                else:
                    pause = min(pause * 1.5, LONGEST)
        finally:
            self.busy = False
            for receiver in self._receivers:
                await receiver.log_out()  # noqa: ASYNC102 - shields itself, for a second

    async def _connect(self) -> None:
        """Connect to the first receiver that works; waits for ever if there is none."""
        pause = FIRST_PAUSE
        while True:
            for _ in self._receivers:
                receiver, broker = self._receivers[self._current], self._brokers[self._current]
                try:
                    await receiver.open()
                except ReceiverError as error:
                    self._publisher.lost(broker, error)
                    self._current = (self._current + 1) % len(self._receivers)
                else:
                    self._publisher.connected(broker)
                    return
            await self._publisher.wait(pause * random.uniform(0.75, 1.25))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _deliver(self, events: list[bytes]) -> None:
        """Send a batch, again and to other receivers if one fails; drop it after `TRIES`."""
        pause = 0.0
        for _ in range(TRIES):
            receiver, broker = self._receivers[self._current], self._brokers[self._current]
            try:
                await receiver.send(events)
            except ReceiverError as error:
                self._publisher.lost(broker, error)
                if pause or isinstance(error, BatchRefusedError):
                    self._current = (self._current + 1) % len(self._receivers)
                # A connection that was lost while it was idle is opened again at once.
                await self._publisher.wait(pause)
                pause = min(max(FIRST_PAUSE, pause * 2), LONGEST_PAUSE)
                await self._connect()
            else:
                self._publisher.add_result(published=len(events))
                return
        self._publisher.add_result(failed=len(events))
        log.error("%d events of frames are dropped: no event receiver accepts them", len(events))
