"""The broker of the tests, and what publishes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.publisher import notification, publishing
from support.rabbitmq import VHOSTS

if TYPE_CHECKING:
    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.mark.parametrize("vhost", VHOSTS)
async def test_the_broker_takes_events_and_no_queue_is_bound(
    rabbitmq: RabbitMQ, vhost: str
) -> None:
    async with publishing(rabbitmq.port, vhost) as publisher:
        assert not await publisher.publish("notification", notification("API_CREATE"))
