"""Rules of `[health]`, `[retry]` and `[dns]`: how backends are asked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trio_gw.config.rules.faults import Fault, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of these."""
    for path, number, least in (
        (("health", "interval"), settings.health.interval, 0.1),
        (("health", "timeout"), settings.health.timeout, 0.01),
        (("health", "unhealthy"), settings.health.unhealthy, 1),
        (("health", "healthy"), settings.health.healthy, 1),
        (("retry", "limit"), settings.retry.limit, 0),
        (("retry", "backoff"), settings.retry.backoff, 0),
        (("dns", "refresh"), settings.dns.refresh, 0),
    ):
        if not (math.isfinite(number) and number >= least):
            yield Fault(path, f"{dotted(path)} must be {least} or more, and finite")
    for index, status in enumerate(settings.retry.statuses):
        if not 400 <= status <= 599:
            yield Fault(
                ("retry", "statuses", index),
                f"retry.statuses: {status} is not the status of a refusal",
                "use 400 to 599, such as 503 or 504",
            )
