"""Connects once to each broker and event receiver of the control plane, for `trio-gw pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config.broker_url import parse_broker_urls
from trio_gw.control_plane.broker import follow
from trio_gw.control_plane.throttling.receiver import (
    LoginRefusedError,
    Receiver,
    ReceiverAddresses,
    ReceiverError,
    receiver_groups,
)
from trio_gw.errors import Problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from trio_gw.config.broker_url import BrokerEndpoint
    from trio_gw.config.control_plane import ControlPlaneSettings
    from trio_gw.control_plane.broker import Delivery

_LATE = "no answer in time"


class Logins(NamedTuple):
    """The brokers and the receivers by address: why one is not connected, empty if it is."""

    brokers: dict[str, str]
    receivers: dict[str, str]

    async def connect(
        self, settings: ControlPlaneSettings, tls: ssl.SSLContext, deadline: float
    ) -> None:
        """Connect to all of them at the same time; the deadline is one of Trio's clock."""
        async with trio.open_nursery() as nursery:
            for endpoint in parse_broker_urls(settings.events):
                nursery.start_soon(_connect, endpoint, tls, self.brokers, deadline)
            table = settings.throttling
            for group in receiver_groups(table) if table.enabled else ():
                for addresses in group:
                    receiver = Receiver(addresses, table.username, table.password, tls)
                    nursery.start_soon(_log_in, receiver, addresses, self.receivers, deadline)

    def problems(self) -> Iterator[Problem]:
        """Report those without a connection: as warnings while another one is connected."""
        hint = "check the broker, and its address and password in control_plane.events"
        yield from _problems(self.brokers, hint)
        hint = "check the receiver, and the addresses and the password of control_plane.throttling"
        yield from _problems(self.receivers, hint)


def _problems(found: Mapping[str, str], hint: str) -> Iterator[Problem]:
    none = all(found.values())
    for address, reason in found.items():
        if reason:
            yield Problem(address, 0, 0, reason, hint, "error" if none else "warning")


class _Trial:
    """A consumer that only waits until its queue is bound."""

    def __init__(self, address: str, brokers: dict[str, str], done: trio.CancelScope) -> None:
        self._address = address
        self._brokers = brokers
        self._done = done

    async def bound(self) -> None:
        """End with success."""
        self._brokers[self._address] = ""
        self._done.cancel()

    async def deliver(self, delivery: Delivery) -> None:
        """Ignore events."""

    def lost(self, reason: str) -> None:
        """Keep the reason, and end."""
        self._brokers[self._address] = reason.removeprefix(f"{self._address}: ")
        self._done.cancel()


async def _connect(
    endpoint: BrokerEndpoint, tls: ssl.SSLContext, brokers: dict[str, str], deadline: float
) -> None:
    """Connect to a broker once, and bind a queue there."""
    address = endpoint.label
    brokers[address] = _LATE
    with trio.CancelScope(deadline=deadline) as done:
        await follow([endpoint], tls, ["notification"], _Trial(address, brokers, done))


async def _log_in(
    receiver: Receiver, addresses: ReceiverAddresses, receivers: dict[str, str], deadline: float
) -> None:
    """Log in to a receiver and connect for events; none is sent."""
    address = f"event receiver {addresses.publish}"
    receivers[address] = _LATE
    try:
        with trio.CancelScope(deadline=deadline):
            await receiver.open()
            receivers[address] = ""
    except LoginRefusedError as error:
        receivers[address] = f"{addresses.login}: {error}"
    except ReceiverError as error:
        receivers[address] = str(error)
    finally:
        await receiver.log_out()  # noqa: ASYNC102 - shields itself, for a second
