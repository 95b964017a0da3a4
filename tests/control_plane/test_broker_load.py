"""Many events at once: what waits is kept by the broker, not by the gateway."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from support.events import Collector, following
from support.publisher import notification, publishing

if TYPE_CHECKING:
    from support.rabbitmq import RabbitMQ
    from trio_gw.control_plane.broker import Delivery

pytestmark = pytest.mark.xdist_group("rabbitmq")

EVENTS = 100_000
BATCH = 500


class Counter(Collector):
    """Counts deliveries."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.in_bound = self.caught_up = trio.Event()

    async def deliver(self, delivery: Delivery) -> None:
        """Count a delivery."""
        self.count += 1
        if self.count == EVENTS:
            self._notify()


def memory() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


async def test_a_hundred_thousand_queued_events_take_no_memory_here(rabbitmq: RabbitMQ) -> None:
    consumer = Counter()
    event = notification("SUBSCRIPTIONS_CREATE", subscriptionId=1, apiUUID="a" * 36)
    async with (
        following([rabbitmq.url()], consumer),
        publishing(rabbitmq.port, seconds=240) as publisher,
    ):
        before = memory()
        for _ in range(EVENTS // BATCH):
            await publisher.repeat("notification", event, BATCH)
        queued = memory()
        consumer.caught_up.set()
        await consumer.until(lambda: consumer.count == EVENTS, 240)
        assert queued - before < 16
        assert memory() - before < 32
        assert consumer.reasons == []
