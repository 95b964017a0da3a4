"""Active health checks: a TCP connect to each endpoint of every cluster with several endpoints.

Runs as a background task; reports the results to `balancer` (spec: routing §8).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from trio_gw.proxy.descriptors import is_exhausted

if TYPE_CHECKING:
    from trio_gw.config.api import Endpoint
    from trio_gw.config.settings import Health
    from trio_gw.proxy.balancer import Balancer, Balancers
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw.health")

MAX_CONCURRENT = 64  # checks


async def watch(balancers: Balancers, live: Live, settings: Health) -> None:
    """Check all endpoints every `interval` seconds, until cancelled."""
    limit = trio.CapacityLimiter(MAX_CONCURRENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_forget, balancers, live)
        while True:
            await trio.sleep(settings.interval)
            async with trio.open_nursery() as checks:
                for balancer in balancers.needing_checks():
                    for endpoint in balancer.cluster.endpoints:
                        checks.start_soon(_check, balancer, endpoint, settings.timeout, limit)


async def _forget(balancers: Balancers, live: Live) -> None:
    """Remove the balancers of clusters that have left the table."""
    while True:
        await live.wait_changed()
        balancers.keep(live.table.clusters())


async def _check(
    balancer: Balancer, endpoint: Endpoint, seconds: float, limit: trio.CapacityLimiter
) -> None:
    before = balancer.healthy(endpoint)
    connected = False
    async with limit:
        with trio.move_on_after(seconds):
            try:
                stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            except OSError as error:
                if is_exhausted(error):
                    return  # says nothing about the backend
            except ValueError:  # an invalid host name
                pass
            else:
                connected = True
                await trio.aclose_forcefully(stream)
    if connected:
        balancer.checked(endpoint)
    else:
        balancer.failed(endpoint)
    if (after := balancer.healthy(endpoint)) != before:
        log.log(
            logging.INFO if after else logging.WARNING,
            "backend %s is %s",
            endpoint,
            "healthy again" if after else "unhealthy",
        )
