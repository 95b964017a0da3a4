"""A control plane for the dashboard: API Manager, its event hub, and its Traffic Manager."""

from __future__ import annotations

import json
import ssl
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.apim import FakeApiManager, start_apim
from support.databridge import Sink
from support.publisher import notification, publishing
from support.rabbitmq import RabbitMQ

if TYPE_CHECKING:
    from collections.abc import Iterator

UUID = "6c1f0e2e-0001-4c5e-9a10-000000000001"


@contextmanager
def event_hub(folder: Path) -> Iterator[RabbitMQ]:
    """Run a RabbitMQ. Blocks while it starts."""
    rabbitmq = RabbitMQ(folder)
    try:
        rabbitmq.start()
        yield rabbitmq
    finally:
        rabbitmq.close()


class Plane:
    """API Manager with one API, and what happens there."""

    def __init__(self, apim: FakeApiManager, sink: Sink, rabbitmq: RabbitMQ) -> None:
        self._apim = apim
        self._sink = sink
        self._rabbitmq = rabbitmq

    def settings(self, folder: Path) -> str:
        """Write the tables of `gateway.toml`."""
        events = [self._rabbitmq.url()]
        table = self._apim.settings(folder, events=events, revision_updates=True)
        throttling = {"enabled": True, "publish": [self._sink.publish], "login": [self._sink.login]}
        lines = ["[control_plane]", *_lines(table)]
        return "\n".join([*lines, "[control_plane.throttling]", *_lines(throttling)]) + "\n"

    async def events(self, until: float) -> None:
        """Publish events until then, and lose the connections now and then."""
        row = {
            "subscriptionId": 1,
            "apiUUID": UUID,
            "applicationUUID": "app-uuid-2",
            "policyId": "AsyncGold",
            "subscriptionState": "UNBLOCKED",
        }
        messages = [
            notification("SUBSCRIPTIONS_UPDATE", **row),
            notification("DEPLOY_API_IN_GATEWAY", uuid=UUID, gatewayLabels=["Default"]),
            notification("DEPLOY_API_IN_GATEWAY", uuid=UUID, gatewayLabels=["Elsewhere"]),
            b"no JSON",
        ]
        number = 0
        while trio.current_time() < until:
            async with publishing(self._rabbitmq.port) as publisher:
                for _ in range(100):
                    await publisher.publish("notification", messages[number % len(messages)])
                    number += 1
                    await trio.sleep(0.1)
                    if trio.current_time() >= until:
                        return
            await self._rabbitmq.close_connections()


def _lines(table: dict[str, object]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]


async def start_plane(nursery: trio.Nursery, backend: str, rabbitmq: RabbitMQ) -> Plane:
    """Start API Manager and the Traffic Manager; `backend` is that of the API."""
    apim = await start_apim(nursery)
    apim.seed(backend, UUID)
    apim.deploy(UUID, name="Plane", context="/plane", backend=backend)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    apim.ca.issue_cert("localhost").configure_cert(context)
    sink = Sink()
    await nursery.start(sink.run, context)
    return Plane(apim, sink, rabbitmq)
