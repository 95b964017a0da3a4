"""A consumer of broker events that keeps what it is given, and a broker client that runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from trio_gw.config.broker_url import parse_broker_urls
from trio_gw.control_plane.broker import Delivery, follow

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Sequence

    from trio_gw.control_plane.status import ControlPlaneStatus

KEYS = ("notification", "keymanager", "tokenRevocation", "throttleData")


class Collector:
    """Keeps deliveries, connects and losses. `hold` makes `deliver` wait for `release`."""

    def __init__(self, *, hold: bool = False) -> None:
        self.deliveries: list[Delivery] = []
        self.connects = 0
        self.reasons: list[str] = []
        self.release = trio.Event()
        self.in_bound: trio.Event | None = None  # `bound` waits for it
        self._hold = hold
        self._changed = trio.Event()

    async def bound(self) -> None:
        """Count a connect."""
        self.connects += 1
        self._notify()
        if self.in_bound is not None:
            await self.in_bound.wait()

    async def deliver(self, delivery: Delivery) -> None:
        """Keep a delivery."""
        self.deliveries.append(delivery)
        self._notify()
        if self._hold:
            await self.release.wait()

    def lost(self, reason: str) -> None:
        """Keep a reason."""
        self.reasons.append(reason)
        self._notify()

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of all deliveries."""
        return [delivery.body for delivery in self.deliveries]

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until a condition on what was kept holds."""
        with trio.fail_after(seconds):
            while not condition():
                await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@contextlib.asynccontextmanager
async def following(
    urls: Sequence[str],
    consumer: Collector | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    keys: Sequence[str] = KEYS,
    status: ControlPlaneStatus | None = None,
    heartbeat: int = 10,
    prefetch: int = 500,
    connected: bool = True,
) -> AsyncIterator[Collector]:
    """Follow brokers while the block runs; it begins when the first queue is bound."""
    consumer = consumer or Collector()

    async def run() -> None:
        endpoints = parse_broker_urls(urls)
        options = {"heartbeat": heartbeat, "prefetch": prefetch}
        await follow(endpoints, tls, keys, consumer, status=status, **options)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        if connected:
            await consumer.until(lambda: consumer.connects > 0)
        yield consumer
        nursery.cancel_scope.cancel()
