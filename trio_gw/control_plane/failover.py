"""The order in which brokers are tried. Pure.

First each broker once, in order and at once. Then rounds: each broker as often as its URL says
(`retries`), with its pause (`connectdelay`) before each attempt. The pauses double with every
round, up to a minute or to `connectdelay` if that is longer (spec: control-plane §6, §14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trio_gw.config.broker_url import BrokerEndpoint

LONGEST_PAUSE = 60.0  # seconds, before jitter
_MOST_GROWTH = 1024.0


def attempts(
    endpoints: Sequence[BrokerEndpoint], jitter: Callable[[], float]
) -> Iterator[tuple[int, float]]:
    """Yield forever the index of the next broker, and the pause before it in seconds.

    `jitter` returns factors around 1, so that many gateways do not connect at the same time.
    """
    for index in range(len(endpoints)):
        yield index, 0.0
    growth = 1.0
    while endpoints:
        for index, endpoint in enumerate(endpoints):
            pause = min(endpoint.delay * growth, max(endpoint.delay, LONGEST_PAUSE))
            for _ in range(endpoint.retries):
                yield index, pause * jitter()
        growth = min(growth * 2, _MOST_GROWTH)
