"""The event hub of API Manager: follows one of several brokers, and delivers their events.

Brokers are tried in the order of the settings. However a connection ends (closed by the broker,
consumer cancelled, end of the stream, silence), the path is the same: the reason is logged once,
and the next attempt follows. Every connection has a new queue, which ends with the connection:
messages that were not processed are lost with it, and `Consumer.bound` catches up.
"""

from __future__ import annotations

import logging
import random
import ssl
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

import trio

from trio_gw.control_plane.broker_link import HEARTBEAT, PREFETCH, LinkError, run_link
from trio_gw.control_plane.failover import attempts
from trio_gw.control_plane.status import BrokerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.config.broker_url import BrokerEndpoint
    from trio_gw.control_plane.status import ControlPlaneStatus
    from trio_gw.wire.amqp_frames import AmqpDiscarded, AmqpMessage

log = logging.getLogger("trio_gw.control_plane")

_SETTLED = 10.0  # seconds after which a connection counts as good: then pauses begin anew


class Delivery(NamedTuple):
    """An event: its kind, and its text as the broker sent it, at most 1 MiB."""

    routing_key: str
    body: bytes


class Consumer(Protocol):
    """What follows the events. `bound` and `deliver` are cancelled when the connection is lost."""

    async def bound(self) -> None:
        """Catch up; from now on no event is missed. Runs after each connect, before events."""

    async def deliver(self, delivery: Delivery) -> None:
        """Process an event. It is acknowledged afterwards. Must not raise."""

    def lost(self, reason: str) -> None:
        """Note that a connection failed or was lost: events may be missed from now on."""


async def follow(
    endpoints: Sequence[BrokerEndpoint],
    tls: ssl.SSLContext | None,
    keys: Sequence[str],
    consumer: Consumer,
    *,
    status: ControlPlaneStatus | None = None,
    heartbeat: int = HEARTBEAT,
    prefetch: int = PREFETCH,
) -> NoReturn:
    """Deliver the events with these routing keys, from whichever broker can be reached.

    Never returns, and raises nothing but cancellation. `tls` is for `amqps`; None trusts the
    authorities of the system. `status` shows each broker. `heartbeat` in seconds.
    """
    if tls is None and any(endpoint.tls for endpoint in endpoints):
        tls = await trio.to_thread.run_sync(ssl.create_default_context)
    shown = [BrokerStatus(f"{endpoint.host}:{endpoint.port}") for endpoint in endpoints]
    if status is not None:
        status.brokers[:] = shown
    said = [""] * len(endpoints)  # the last reason of each broker
    order = attempts(endpoints, _jitter)
    while endpoints:
        index, pause = next(order)
        await trio.sleep(pause)
        endpoint = endpoints[index]
        events = _Events(endpoint, shown[index], consumer, status)
        try:
            await run_link(endpoint, tls, keys, events, heartbeat=heartbeat, prefetch=prefetch)
        except LinkError as error:
            reason = str(error)
        if events.since is not None:
            said[index] = ""
            if trio.current_time() - events.since >= _SETTLED:
                order = attempts(endpoints, _jitter)
        level = logging.DEBUG if reason == said[index] else logging.WARNING
        log.log(level, "event hub: the broker %s failed: %s", endpoint.label, reason)
        said[index] = reason
        if status is not None:
            status.lost(shown[index], reason)
        consumer.lost(f"{endpoint.label}: {reason}")
    await trio.sleep_forever()
    raise AssertionError("unreachable")


class _Events:
    """Hands the messages of one connection to the consumer."""

    def __init__(
        self,
        endpoint: BrokerEndpoint,
        shown: BrokerStatus,
        consumer: Consumer,
        status: ControlPlaneStatus | None,
    ) -> None:
        self.since: float | None = None  # when the queue was consumed
        self._endpoint = endpoint
        self._shown = shown
        self._consumer = consumer
        self._status = status
        self._discarded = 0

    async def ready(self) -> None:
        self.since = trio.current_time()
        log.info("event hub: connected to the broker %s", self._endpoint.label)
        if self._status is not None:
            self._status.connected(self._shown)
        await self._consumer.bound()

    async def process(self, message: AmqpMessage) -> None:
        await self._consumer.deliver(Delivery(message.routing_key, message.body))

    def discarded(self, message: AmqpDiscarded) -> None:
        if self._status is not None:
            what = f"a message of {message.size} octets was discarded"
            self._status.event("other", "malformed", what)
        self._discarded += 1
        if self._discarded == 1:
            what = "event hub: discarded a message of %d octets from the broker %s"
            log.warning(what, message.size, self._endpoint.label)


def _jitter() -> float:
    return random.uniform(0.8, 1.2)  # noqa: S311 - it protects nothing
