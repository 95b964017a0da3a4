"""What counting and limiting cost: processor time per relayed message with both, beside without."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from support import costs

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from support.commands import Serving

pytestmark = [pytest.mark.both_forms, pytest.mark.xdist_group("processor")]

MOST = 1.15
QUIET = "[metrics]\nenabled = false\n"
# Three levels count what an open topic says, and none of them ever has too little room.
LIMITED = """
[tiers.Much]
events = 100_000_000_000
per = "1d"
count = "both"
[tiers.Plenty]
bytes = "100GB"
per = "1d"
[tiers.Unauthenticated]
events = 100_000_000_000
per = "1h"
"""


@pytest.mark.parametrize(
    ("limits", "messages", "at_once"), [(False, 100, 1), (True, 100, 1), (True, 500, 20)]
)
async def test_counting_costs_little(
    base: Path,
    running: list[Serving],
    nursery: trio.Nursery,
    limits: bool,
    messages: int,
    at_once: int,
) -> None:
    what = "metrics and limits" if limits else "metrics"
    ratios = []
    # Two processes of one program may differ for as long as they run: then a second pair decides.
    for attempt in ("first", "second"):
        if not limits:
            one = await costs.talkers(base / attempt / "on", running, nursery, "")
        else:
            topic = {"x-throttling-tier": "Much"}
            start = partial(costs.talkers, tier="Plenty", topic=topic)
            one = await start(base / attempt / "on", running, nursery, LIMITED)
        other = await costs.talkers(base / attempt / "off", running, nursery, QUIET)
        ratios.append(await costs.ratio((one, other), messages, at_once, MOST))
        await costs.leave((one, other))
        print(f"{what}, {at_once} at once: {ratios[-1]:.3f} times the cost")
        if ratios[-1] <= MOST:
            break
    assert min(ratios) <= MOST
