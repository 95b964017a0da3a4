"""What ends connections that nobody ends: time, tokens, revocation, conditions, an API gone.

Services of `worker`'s nursery. Once a second one pass looks at all sessions, instead of a timer
per connection or per frame; the exact moment of an expiry within that second is waited for.
Whenever many end for one reason they are spread, so that their clients do not all return in one
moment.
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
    from trio_gw.routing.table import Live

log = logging.getLogger("trio_gw.sessions")

SWEEP = 1.0  # seconds between two looks at all sessions
SKEW = 5.0  # seconds that a token is accepted beyond its expiry (spec: security §3.2)
AT_ONCE = 1.0  # seconds within which what was revoked or denied has ended
SLICE = 50  # sessions compared with deny conditions in one go, a millisecond's work at most


class Sweeper:
    """Ends sessions from outside. `expiry`: also when their tokens end; `clock`: epoch seconds."""

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
        """End what is idle, too old, or opened with a token that has expired; never returns."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(SWEEP)
                self.look(trio.current_time())
                if self._expiry and (due := self.expiring(self._clock())):
                    nursery.start_soon(self._expire, due)

    def look(self, now: float) -> None:
        """End every relayed session that is past a limit at `now` (Trio's clock, seconds)."""
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
        """List the sessions whose token expires before the next look; each is listed once.

        `now` is in epoch seconds. A clock that jumps forward ends what has expired by it; one
        that jumps back ends nothing too early.
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
        """End these as their tokens expire; many at one time are spread over `timeouts.drain`."""
        self._expiring.update(due)
        try:
            for session in due:
                if session.end_requested is not None:
                    continue
                wait = expires_at(session) - self._clock()
                if wait > SWEEP:
                    break  # the clock went back: the next look decides anew
                await trio.sleep(max(wait, 0))
                at_that_time = [one for one in due if one.end_requested is None and self._over(one)]
                await self._sessions.end(at_that_time, CloseCode.POLICY, "token expired")
        finally:
            self._expiring.difference_update(due)

    def _over(self, session: Session) -> bool:
        return expires_at(session) <= self._clock()

    async def revoke(self, revocations: Revocations) -> None:
        """End the connections of what is revoked while they are open; never returns."""
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
                log.info("ending %d connections whose tokens were revoked", len(hit))
                await self._sessions.end(hit, CloseCode.POLICY, "token revoked", within=AT_ONCE)
            else:
                await revocations.wait_changed()

    async def block(self, blocklist: Blocklist) -> None:
        """End the connections that deny conditions concern while they are open; never returns."""
        while True:
            changed = blocklist.changed
            if blocklist.current and (hit := await self._denied(blocklist)):
                async with trio.open_nursery() as nursery:
                    for kind, some in hit.items():
                        log.info("ending %d connections whose %s is denied", len(some), kind)
                        end = partial(self._sessions.end, within=AT_ONCE, denied=kind)
                        nursery.start_soon(end, some, CloseCode.POLICY, f"{kind} is blocked")
            else:
                await changed.wait()

    async def _denied(self, blocklist: Blocklist) -> dict[str, list[Session]]:
        """Find them, by the kind of condition; others get their turn meanwhile."""
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
        """End the connections of topics that a new table no longer has; never returns."""
        while True:
            gone = [
                session
                for session in self._sessions
                if session.route is not None
                and session.end_requested is None
                and not live.table.has(session.route)
            ]
            if gone:
                log.info("ending %d connections whose API is gone", len(gone))
                await self._sessions.end(gone, CloseCode.GOING_AWAY, "API was undeployed")
            else:
                await live.wait_changed()


def expires_at(session: Session) -> float:
    """Give the moment (epoch seconds) at which a session's token ends it; infinite without one.

    A token that was accepted within the allowance for clocks that differ keeps that allowance.
    """
    caller = session.caller
    if caller is None or caller.expires_at is None:
        return float("inf")
    late = session.admitted_at >= caller.expires_at
    return caller.expires_at + (SKEW if late else 0.0)
