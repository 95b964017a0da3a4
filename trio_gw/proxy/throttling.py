"""The Traffic Manager in the life of a connection: events of its frames, decisions that stop it.

Each connection has a `Throttle`. At the handshake all levels are looked at: a throttled connection
is opened and starts suspended. Later decisions about an API, a subscription or an application reach
the open connections that they concern within milliseconds. A suspended connection refuses messages
in its limiters, as an exceeded tier does. spec: control-plane §8, frames §3, §5.

Only with `control_plane.throttling.enabled`. Each worker has an object of its own, and publishes
the frames of its own connections.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

from trio_gw.guard import refusals
from trio_gw.guard.condition_groups import ConditionSettings
from trio_gw.guard.decisions import UNLIMITED, Decisions, LevelTiers, watched_key
from trio_gw.proxy import fault_types
from trio_gw.proxy.session_throttle import Throttle, facts_of, keys_of, subject_of, variables_of
from trio_gw.wire.throttle_event import FrameTemplate, address_number

if TYPE_CHECKING:
    from typing import Any

    from trio_gw.config.control_plane import ThrottlingSettings
    from trio_gw.config.entitlements import DecisionRow
    from trio_gw.config.layered_map import LayeredMap
    from trio_gw.guard.caller import Caller
    from trio_gw.proxy.limiter_factory import LimiterFactory
    from trio_gw.proxy.sessions import Session
    from trio_gw.relay.lane import Lane
    from trio_gw.routing.live import Live
    from trio_gw.routing.route import Route
    from trio_gw.telemetry.frame_queue import FrameQueue
    from trio_gw.wire.head import RequestHead

log = logging.getLogger("trio_gw.limits")

TURN = 0.005  # seconds of work before other tasks run: conditions of decisions may be slow


class Throttling:
    """The throttles of all connections of a process, and the decisions that concern them."""

    def __init__(
        self, settings: ThrottlingSettings, live: Live, factory: LimiterFactory, frames: FrameQueue
    ) -> None:
        chosen = ConditionSettings(
            settings.header_conditions, settings.query_conditions, settings.claim_conditions
        )
        self.frames = frames
        self._chosen = chosen
        self._live = live
        self._factory = factory
        self._decisions = Decisions(chosen)
        self._seen: LayeredMap[str, DecisionRow] = type(live.entitlements.decisions)()
        self._watching: dict[str, set[Throttle]] = {}  # by what decisions are about

    # -- connections -------------------------------------------------------------------------

    def admit(
        self,
        session: Session,
        route: Route,
        caller: Caller,
        head: RequestHead,
        drop: frozenset[bytes],
    ) -> None:
        """Begin to watch a connection, and suspend it if it is throttled already.

        `head` is the request for the backend; `drop` names headers with credentials.
        """
        assert session.limiters is not None
        address = session.info.address
        subject = subject_of(session.request_id, route, caller)
        named = subject.api_tier, subject.subscription_tier or UNLIMITED, subject.app_tier
        claims = caller.claims() if self._chosen.claims else {}
        number = address_number(address)[1]
        session.throttle = throttle = Throttle(
            session.limiters,
            keys_of(subject, caller),
            LevelTiers(*map(self._factory.tier, named)),
            facts_of(self._chosen, number, head, drop, claims),
            FrameTemplate(subject, address, claims),
        )
        throttle.custom = self._decisions.find_custom(
            self._live.entitlements.key_templates,
            variables_of(subject, number, claims),
            self._factory.tier(UNLIMITED),
            time.time(),
        )
        throttle.watched = tuple(
            {*filter(None, throttle.keys), *(key for key, _ in throttle.custom)}
        )
        for key in throttle.watched:
            self._watching.setdefault(key, set()).add(throttle)
        self._apply(throttle)

    def check_plain(self, session: Session) -> None:
        """Raise `Refusal` (429) for a plain HTTP request that is throttled."""
        assert session.throttle is not None
        now = time.time()
        for one in session.throttle.decided:
            if one.until > now:
                code = fault_types.of_level(one.level).code
                raise refusals.throttled(str(code), one.until, one.reason)

    def release(self, throttle: Throttle) -> None:
        """Stop watching a connection."""
        throttle.closed = True
        for key in throttle.watched:
            watching = self._watching[key]
            watching.discard(throttle)
            if not watching:
                del self._watching[key]

    def opened(self, session: Session) -> None:
        """Report the frames of a connection from now on; called as an observer is."""
        if (throttle := session.throttle) is None:
            return
        for side, lane in zip(session.rate_limits, _lanes(session), strict=True):
            frames = self.frames.direction(throttle.template)
            add_tap(lane, frames.passed)
            session.rate_limits[side].policer.on_drop = frames.refused

    def ended(self, session: Session) -> None:
        """Remove the references of a connection, so that no garbage collector is needed."""
        if session.throttle is not None and session.publish is not None:
            for lane in _lanes(session):
                lane.tap = None

    # -- decisions ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Apply decisions to the open connections that they concern; never returns."""
        while True:
            changed = self._live.entitled
            await self.update()
            await changed.wait()

    async def update(self) -> None:
        """Take over the decisions among the current entitlements."""
        current = self._live.entitlements.decisions
        if current is self._seen:
            return
        keys = current.differing(self._seen)
        self._seen = current
        for key in keys:
            if (row := current.get(key)) is None:
                self._decisions.remove(key)
            else:
                self._decisions.put(row)
        concerned = {about for key in keys for about in (key, watched_key(key))}
        until = trio.current_time() + TURN
        for about in concerned:
            count, cause = 0, ""
            for throttle in tuple(self._watching.get(about, ())):
                if not throttle.closed:
                    self._apply(throttle)
                    if throttle.decided:
                        count, cause = count + 1, throttle.decided[0].reason
                if trio.current_time() >= until:
                    await trio.lowlevel.checkpoint()
                    until = trio.current_time() + TURN
            if count:
                log.info("%s (decision of the Traffic Manager, %d connections)", cause, count)

    def _apply(self, throttle: Throttle) -> None:
        """Suspend a connection as the current decisions say, or let its messages pass again."""
        now = time.time()
        decided = self._decisions.find(throttle.keys, throttle.tiers, throttle.facts, now)
        if throttle.custom:
            throttle.custom = tuple(
                (key, one) for key, one in throttle.custom if self._decisions.holds(key, now)
            )
            decided += tuple(one for _, one in throttle.custom)
        throttle.decided = decided
        throttle.limiters.suspend(decided)


def add_tap(lane: Lane, tap: Any) -> None:  # noqa: ANN401 - the type of `Lane.tap`
    """Call a function for each frame of a lane, besides the one that is called already."""
    if (first := lane.tap) is None:
        lane.tap = tap
        return

    def both(size: int, last: bool) -> None:
        first(size, last)
        tap(size, last)

    lane.tap = both


def _lanes(session: Session) -> tuple[Lane, Lane]:
    assert session.publish is not None
    assert session.subscribe is not None
    return session.publish, session.subscribe
