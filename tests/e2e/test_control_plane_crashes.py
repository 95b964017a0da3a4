"""kill -9 during events of a control plane: the cache is served, and then what API Manager has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.apim import start_apim
from support.plane_crashes import PlaneCrashes
from support.publisher import publishing

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.mark.parametrize(("workers", "rounds"), [(1, 4), (2, 6)])
async def test_a_killed_gateway_serves_its_cache(
    nursery: trio.Nursery, base: Path, rabbitmq: RabbitMQ, workers: int, rounds: int
) -> None:
    apim = await start_apim(nursery)
    async with publishing(rabbitmq.port, seconds=300) as publisher:
        crashes = PlaneCrashes(
            *(base, apim, publisher, rabbitmq.url()), workers=workers, seed=workers
        )
        async for done in crashes.run(rounds):
            assert sum(crashes.kills.values()) == done
    assert len(crashes.starts) == len(crashes.caught_up) == rounds - 1
