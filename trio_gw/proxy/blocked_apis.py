"""Ends the open connections of APIs that were blocked in their lifecycle.

Runs as a background task. A blocked API is part of the route table (`RouteTable.blocked`), so a
gateway without one looks at no session. spec: portal §2.9.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

import trio

from trio_gw.errors import CloseCode
from trio_gw.proxy.sessions import BackgroundEnds
from trio_gw.proxy.sweeper import SLICE

if TYPE_CHECKING:
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw.sessions")

REASON = "API is blocked"


async def end_blocked(sessions: Sessions, live: Live, within: float) -> NoReturn:
    """End them after each change of the table, spread over `within` seconds; never returns."""
    async with trio.open_nursery() as nursery:
        ends = BackgroundEnds(sessions, nursery, within)
        while True:
            changed = live.changed
            if hit := await _blocked(sessions, live, ends):
                log.info("ending %d connections: their API is blocked", len(hit))
                ends.end(hit, CloseCode.POLICY, REASON)
            await changed.wait()


async def _blocked(sessions: Sessions, live: Live, ends: BackgroundEnds) -> list[Session]:
    """Find them, also those in their handshake; other tasks may run in between."""
    hit: list[Session] = []
    if not live.table.blocked:
        return hit
    for place, session in enumerate(sessions, 1):
        if place % SLICE == 0:
            await trio.lowlevel.checkpoint()
        route = session.route
        if route is None or session.ending is not None or session in ends:
            continue
        if (route.api.organization, route.api.id) in live.table.blocked:
            hit.append(session)
    return hit
