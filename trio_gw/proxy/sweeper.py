"""Ends connections: timeouts, expired or revoked tokens, deny conditions, removed APIs.

Runs as background tasks. One pass per second checks all sessions, instead of one timer per
connection or per frame. Within that second, the exact moment of an expiry is waited for. If many
sessions end for one reason, their ends are spread so that the clients do not all reconnect at once.
"""

from __future__ import annotations

import bisect
import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode
from trio_gw.proxy import deny_check
from trio_gw.proxy.sessions import BackgroundEnds

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.settings import Timeouts
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.revocations import Revocations
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw.sessions")

SWEEP = 1.0  # seconds between two sweeps
SKEW = 5.0  # seconds that a token is accepted after its expiry (spec: security §3.2)
END_WITHIN = 0.4  # seconds within which revoked or denied sessions end, after they were found
PAUSE = 0.1  # seconds between two searches for them: many changes cost as much as one
SLICE = 500  # sessions to look at before other tasks run: about 1 ms
RESOLUTION = 1e-6  # seconds: of two clocks, one may be behind after a wait
DENY_SLICE = 50  # ... when they are compared with deny conditions


class Sweeper:
    """Ends sessions. With `expiry` also when their tokens expire; `clock` returns epoch seconds."""

    def __init__(
        self,
        sessions: Sessions,
        timeouts: Timeouts,
        *,
        expiry: bool,
        clock: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._timeouts = timeouts
        self._expiry = expiry
        self._clock = clock
        self._expiring: set[Session] = set()

    async def run(self) -> None:
        """End sessions that are idle, too old, or have an expired token; never returns."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(SWEEP)
                nursery.start_soon(self.sweep, trio.current_time())
                if self._expiry and (due := await self.expiring(self._clock())):
                    nursery.start_soon(self._expire, due)

    async def sweep(self, now: float) -> None:
        """End every relayed session that is over a limit at `now` (Trio's clock, seconds)."""
        idle, lifetime = self._timeouts.idle, self._timeouts.lifetime
        is_idle, is_old = f"idle for {idle:g} s", f"open for {lifetime:g} s"
        over: dict[str, list[Session]] = {}
        for place, session in enumerate(self._sessions, 1):
            if place % SLICE == 0:
                await trio.lowlevel.checkpoint()
            publish, subscribe = session.publish, session.subscribe
            if publish is None or subscribe is None or session.end_requested is not None:
                continue
            octets = publish.octets + subscribe.octets
            if octets != session.octets or session.holding:
                session.octets, session.active_at = octets, now
            if now - session.active_at >= idle:
                over.setdefault(is_idle, []).append(session)
            elif now - session.opened_at >= lifetime:
                over.setdefault(is_old, []).append(session)
        async with trio.open_nursery() as nursery:
            for reason, some in over.items():
                end = partial(self._sessions.end, within=END_WITHIN)
                nursery.start_soon(end, some, CloseCode.GOING_AWAY, reason)

    async def expiring(self, now: float) -> list[Session]:
        """List the sessions with a token that expires before the next sweep; each is listed once.

        `now` is in epoch seconds. If the clock jumps forward, everything expired by it is ended; if
        it jumps back, nothing is ended too early.
        """
        due = []
        for place, session in enumerate(self._sessions, 1):
            if place % SLICE == 0:
                await trio.lowlevel.checkpoint()
            if session.end_requested is not None or session in self._expiring:
                continue
            if expires_at(session) <= now + SWEEP:
                due.append(session)
        due.sort(key=expires_at)
        return due

    async def _expire(self, due: list[Session]) -> None:
        """End these sessions when their tokens expire; many at once are spread over
        `timeouts.drain`.
        """
        self._expiring.update(due)
        try:
            first = 0
            while first < len(due):
                wait = expires_at(due[first]) - self._clock()
                if wait > SWEEP:
                    break  # the clock went back: the next sweep decides
                await trio.sleep(max(wait, 0))
                # Those that expire in the same moment, or have expired meanwhile.
                now = self._clock() + RESOLUTION
                end = bisect.bisect_right(due, now, first, key=expires_at)
                some = [one for one in due[first:end] if one.end_requested is None]
                if some:
                    await self._sessions.end(some, CloseCode.POLICY, "token expired")
                first = end
        finally:
            self._expiring.difference_update(due)

    async def revoke(self, revocations: Revocations) -> None:
        """End open connections with a revoked token; never returns."""
        async with trio.open_nursery() as nursery:
            ends = BackgroundEnds(self._sessions, nursery, END_WITHIN)
            while True:
                changed = revocations.changed
                hit = []
                for place, session in enumerate(self._sessions, 1):
                    if place % SLICE == 0:
                        await trio.lowlevel.checkpoint()
                    caller = session.caller
                    if caller is None or caller.anonymous or session in ends:
                        continue
                    if revocations.covers(caller):
                        hit.append(session)
                if hit:
                    log.info("ending %d connections with revoked tokens", len(hit))
                    ends.end(hit, CloseCode.POLICY, "token revoked")
                await trio.sleep(PAUSE)
                await changed.wait()

    async def block(self, blocklist: Blocklist) -> None:
        """End open connections that deny conditions apply to; never returns."""
        async with trio.open_nursery() as nursery:
            ends = BackgroundEnds(self._sessions, nursery, END_WITHIN)
            while True:
                changed = blocklist.changed
                hit = await self._denied(blocklist, ends) if blocklist.current else {}
                for kind, some in hit.items():
                    log.info("ending %d connections: their %s is denied", len(some), kind)
                    ends.end(some, CloseCode.POLICY, f"{kind} is blocked", denied=kind)
                await trio.sleep(PAUSE)
                await changed.wait()

    async def _denied(self, blocklist: Blocklist, ends: BackgroundEnds) -> dict[str, list[Session]]:
        """Find them, by kind of condition; other tasks may run in between."""
        hit: dict[str, list[Session]] = {}
        for place, session in enumerate(self._sessions, 1):
            if place % DENY_SLICE == 0:
                await trio.lowlevel.checkpoint()
            if session in ends or session.ending is not None:
                continue
            if (found := deny_check.concerning(blocklist, session)) is not None:
                hit.setdefault(found.kind, []).append(session)
        return hit

    async def evict(self, live: Live) -> None:
        """End the connections of topics that have left the table; never returns."""
        while True:
            changed = live.changed
            gone = []
            for place, session in enumerate(self._sessions, 1):
                if place % SLICE == 0:
                    await trio.lowlevel.checkpoint()
                if session.route is None or session.end_requested is not None:
                    continue
                if not live.table.has(session.route):
                    gone.append(session)
            if gone:
                log.info("ending %d connections: their API was undeployed", len(gone))
                await self._sessions.end(gone, CloseCode.GOING_AWAY, "API was undeployed")
            else:
                await changed.wait()


def expires_at(session: Session) -> float:
    """Return when a session's token expires (epoch seconds); infinite without a token.

    A token that was accepted within the tolerance for clock skew keeps that tolerance.
    """
    caller = session.caller
    if caller is None or caller.expires_at is None:
        return float("inf")
    late = session.admitted_at >= caller.expires_at
    return caller.expires_at + (SKEW if late else 0.0)
