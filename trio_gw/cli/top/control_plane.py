"""The line about the control plane: texts and their styles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.cli.top.formatting import plain, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.cli.top.responses import Plane

CAUTION = "yellow"
_SERVED = ("apis", "subscriptions", "applications")


def items(plane: Plane) -> Iterator[tuple[str, str]]:
    """Yield what is shown side by side."""
    if plane.current is None:
        yield "control plane: the worker that follows it did not respond", CAUTION
        return
    if plane.current:
        yield "control plane: current", ""
    else:
        since = span(plane.stale_seconds or 0.0)
        cached = ", served from the cache" if plane.from_cache else ""
        yield f"control plane: stale for {since}{cached}", CAUTION
    connected = [one.address for one in plane.brokers or () if one.connected]
    yield (f"events from {plain(connected[0])}", "") if connected else ("no broker", CAUTION)
    yield f"{plane.event_count:,} events", ""
    served = plane.workers[0].served if plane.workers else {}
    for kind in _SERVED:
        if kind in served:
            yield f"{served[kind]:,} {'APIs' if kind == 'apis' else kind}", ""
    if plane.pull is not None and plane.pull.error:
        yield f"pull failed: {plain(plane.pull.error)}", CAUTION
    elif plane.pull is not None and plane.pull.running:
        yield "pulling", ""
