"""Ends connections: timeouts, expired or revoked tokens, deny conditions, removed APIs.

Runs as background tasks. One pass per second checks all sessions, instead of one timer per
connection or per frame. Within that second, the exact moment of an expiry is waited for. If many
sessions end for one reason, their ends are spread so that the clients do not all reconnect at once.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode
from trio_gw.proxy import deny_check

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
END_WITHIN = 1.0  # seconds within which revoked or denied sessions end
SLICE = 50  # sessions to compare with deny conditions before other tasks run; at most 1 ms


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
                self.sweep(trio.current_time())
                if self._expiry and (due := self.expiring(self._clock())):
                    nursery.start_soon(self._expire, due)

    def sweep(self, now: float) -> None:
        """End every relayed session that is over a limit at `now` (Trio's clock, seconds)."""
        idle, lifetime = self._timeouts.idle, self._timeouts.lifetime
        for session in self._sessions:
            publish, subscribe = session.publish, session.subscribe
            if publish is None or subscribe is None:
                continue
            octets = publish.octets + subscribe.octets
            if octets != session.octets or session.holding:
                session.octets, session.active_at = octets, now
            if now - session.active_at >= idle:
                session.end(CloseCode.GOING_AWAY, f"idle for {idle:g} s")
            elif now - session.opened_at >= lifetime:
                session.end(CloseCode.GOING_AWAY, f"open for {lifetime:g} s")

    def expiring(self, now: float) -> list[Session]:
        """List the sessions with a token that expires before the next sweep; each is listed once.

        `now` is in epoch seconds. If the clock jumps forward, everything expired by it is ended; if
        it jumps back, nothing is ended too early.
        """
        due = [
            session
            for session in self._sessions
            if session.end_requested is None
            and session not in self._expiring
            and expires_at(session) <= now + SWEEP
        ]
        due.sort(key=expires_at)
        return due

    async def _expire(self, due: list[Session]) -> None:
        """End these sessions when their tokens expire; many at once are spread over
        `timeouts.drain`.
        """
        self._expiring.update(due)
        try:
            for session in due:
                if session.end_requested is not None:
                    continue
                wait = expires_at(session) - self._clock()
                if wait > SWEEP:
                    break  # the clock went back: the next sweep decides
                await trio.sleep(max(wait, 0))
                at_that_time = [one for one in due if one.end_requested is None and self._over(one)]
                await self._sessions.end(at_that_time, CloseCode.POLICY, "token expired")
        finally:
            self._expiring.difference_update(due)

    def _over(self, session: Session) -> bool:
        return expires_at(session) <= self._clock()

    async def revoke(self, revocations: Revocations) -> None:
        """End open connections with a revoked token; never returns."""
        while True:
            hit = [
                session
                for session in self._sessions
                if (caller := session.caller) is not None
                and not caller.anonymous
                and session.end_requested is None
                and revocations.covers(caller.token_id, caller.subject, caller.consumer_key)
            ]
            if hit:
                log.info("ending %d connections with revoked tokens", len(hit))
                await self._sessions.end(hit, CloseCode.POLICY, "token revoked", within=END_WITHIN)
            else:
                await revocations.wait_changed()

    async def block(self, blocklist: Blocklist) -> None:
        """End open connections that deny conditions apply to; never returns."""
        while True:
            changed = blocklist.changed
            if blocklist.current and (hit := await self._denied(blocklist)):
                async with trio.open_nursery() as nursery:
                    for kind, some in hit.items():
                        log.info("ending %d connections: their %s is denied", len(some), kind)
                        end = partial(self._sessions.end, within=END_WITHIN, denied=kind)
                        nursery.start_soon(end, some, CloseCode.POLICY, f"{kind} is blocked")
            else:
                await changed.wait()

    async def _denied(self, blocklist: Blocklist) -> dict[str, list[Session]]:
        """Find them, by kind of condition; other tasks may run in between."""
        hit: dict[str, list[Session]] = {}
        for place, session in enumerate(self._sessions):
            if place % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            if session.end_requested is not None or session.ending is not None:
                continue
            if (found := deny_check.concerning(blocklist, session)) is not None:
                hit.setdefault(found.kind, []).append(session)
        return hit

    async def evict(self, live: Live) -> None:
        """End the connections of topics that have left the table; never returns."""
        while True:
            gone = [
                session
                for session in self._sessions
                if session.route is not None
                and session.end_requested is None
                and not live.table.has(session.route)
            ]
            if gone:
                log.info("ending %d connections: their API was undeployed", len(gone))
                await self._sessions.end(gone, CloseCode.GOING_AWAY, "API was undeployed")
            else:
                await live.wait_changed()


def expires_at(session: Session) -> float:
    """Return when a session's token expires (epoch seconds); infinite without a token.

    A token that was accepted within the tolerance for clock skew keeps that tolerance.
    """
    caller = session.caller
    if caller is None or caller.expires_at is None:
        return float("inf")
    late = session.admitted_at >= caller.expires_at
    return caller.expires_at + (SKEW if late else 0.0)
