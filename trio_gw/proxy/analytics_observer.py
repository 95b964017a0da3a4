"""Turns sessions into analytics events: handshake, traffic, faults, close (spec: frames §7).

An observer, like `stats_observer`. If the settings ask for an event per frame, a tap on the lane
reports each frame. Otherwise the totals since the last interval are read from the lanes. Messages
that a limit rejects work the same way: one event each, or one event per total.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_gw.errors import Phase
from trio_gw.guard.refusals import BLOCKED
from trio_gw.proxy import fault_types
from trio_gw.proxy.access_log import ending_of
from trio_gw.telemetry.events import (
    ANONYMOUS,
    UNKNOWN,
    FaultEvent,
    ResponseEvent,
    families_of,
    timestamp,
)
from trio_gw.telemetry.logs import cut

if TYPE_CHECKING:
    from trio_gw.guard.counter import WindowCounter
    from trio_gw.guard.decisions import Decided
    from trio_gw.proxy.fault_types import FaultType
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.relay.lane import Lane
    from trio_gw.telemetry.analytics import Analytics
    from trio_gw.telemetry.events import Property

BATCH = 50  # sessions to report together
_IN, _OUT = "PUBLISH", "SUBSCRIBE"


class _Reported:
    """What has been reported of a session."""

    __slots__ = ("throttled", "traffic")

    def __init__(self) -> None:
        self.traffic = [0] * 6  # frames, messages and payload of both lanes
        # Messages that did not pass, by direction, level, tier and action; not reported yet.
        self.throttled: dict[tuple[str, str, str, str], int] = {}


class AnalyticsObserver:
    """Creates events from sessions: with `frames` one per data frame, otherwise totals."""

    def __init__(
        self,
        analytics: Analytics,
        sessions: Sessions,
        *,
        frames: bool,
        interval: float,
        region: str,
    ) -> None:
        self._analytics = analytics
        self._sessions = sessions
        self._frames = frames
        self._interval = interval
        self._region = region
        self._reported: dict[Session, _Reported] = {}

    async def run(self) -> None:
        """Report totals every interval, until cancelled.

        Many sessions are spread over half the interval: their events would not all fit into the
        queue, and other tasks would have to wait.
        """
        due = trio.current_time()
        while not self._frames:
            due = max(due + self._interval, trio.current_time())
            await trio.sleep_until(due)
            sessions = list(self._sessions)
            parts = range(0, len(sessions), BATCH)
            for at in parts:
                for session in sessions[at : at + BATCH]:
                    self._totals(session)
                await trio.sleep(self._interval / 2 / len(parts))
        await trio.sleep_forever()

    def opened(self, session: Session) -> None:
        """Report the handshake."""
        phase_ends = dict(session.phase_ends)
        now = phase_ends.get(Phase.UPGRADE, trio.current_time())
        dialed = phase_ends.get(Phase.AUTHENTICATE, now)
        self._put(
            session,
            "HANDSHAKE",
            f"init-request:{_topic(session)}",
            {},
            target_response_code=101,
            response_latency=_milliseconds(now - session.opened_at),
            backend_latency=_milliseconds(now - dialed),
            request_mediation_latency=_milliseconds(dialed - session.opened_at),
        )
        self._reported[session] = reported = _Reported()
        if session.limiters is not None:
            listeners = (partial(self._throttled, session, reported, way) for way in (_IN, _OUT))
            session.limiters.add_listeners(*listeners)
        if self._frames:
            for method, lane in _lanes(session):
                lane.tap = partial(self._frame, session, method)

    def ended(self, session: Session) -> None:
        """Report the remaining traffic and the close; or why there was no connection."""
        if session.route is None or not session.status:
            return
        if session not in self._reported:
            self._refused(session)
            return
        self._totals(session)
        del self._reported[session]
        if session.denied:
            made: dict[str, Property] = {"level": session.denied, "action": "close"}
            self._fault(session, fault_types.DENIED, 429, made)
        ending = ending_of(session)
        assert ending is not None
        totals: dict[str, Property] = {
            "closeCode": int(ending.code),
            "closeReason": ending.reason,
            "endedBy": ending.by.value,
            "duration": round(trio.current_time() - session.opened_at, 3),
        }
        for (_, lane), way in zip(_lanes(session), ("In", "Out"), strict=True):
            lane.tap = None
            totals |= {
                f"frames{way}": lane.frames,
                f"messages{way}": lane.messages,
                f"bytes{way}": lane.payload,
            }
        if dropped := session.dropped:
            totals["messagesDropped"] = dropped
        self._put(session, "CLOSE", f"close:{_topic(session)}", totals)

    def _frame(self, session: Session, method: str, size: int, last: bool) -> None:
        self._put(
            session, method, _topic(session), {"frames": 1, "messages": int(last), "bytes": size}
        )

    def _throttled(
        self,
        session: Session,
        reported: _Reported,
        method: str,
        counter: WindowCounter | Decided,
        messages: int,
    ) -> None:
        what = (method, counter.level, counter.tier.name, counter.tier.on_exceed)
        if self._frames:
            for _ in range(messages):
                self._exceeded(session, what, 1)
        else:
            reported.throttled[what] = reported.throttled.get(what, 0) + messages

    def _totals(self, session: Session) -> None:
        """Report the traffic since the last report, unless each frame is reported."""
        reported = self._reported.get(session)
        if self._frames or reported is None:
            return
        for what, count in reported.throttled.items():
            self._exceeded(session, what, count)
        reported.throttled.clear()
        for place, (method, lane) in enumerate(_lanes(session)):
            values = (lane.frames, lane.messages, lane.payload)
            before = reported.traffic[place * 3 : place * 3 + 3]
            frames, messages, size = (max(0, a - b) for a, b in zip(values, before, strict=True))
            if frames or size:
                # A frame in progress can make the payload look larger than it will be.
                reported.traffic[place * 3 : place * 3 + 3] = map(max, before, values)
                made = {"frames": frames, "messages": messages, "bytes": size}
                self._put(session, method, _topic(session), made)

    def _refused(self, session: Session) -> None:
        ending = session.ending
        if ending is None and not session.backend:
            return  # OPTIONS: a normal answer
        if ending is None or not session.code:  # the backend's own response
            method = session.request.partition(" ")[0]
            self._put(session, method, _topic(session), {}, proxy_response_code=session.status,
                      target_response_code=session.status)  # fmt: skip
            return
        if session.limit:
            made: dict[str, Property]
            made = {"level": session.limit.lower(), "action": "refused"}
            self._fault(session, fault_types.FULL, session.status, made)
            return
        if session.denied and session.code == BLOCKED:
            made = {"level": session.denied, "action": "refused"}
            self._fault(session, fault_types.DENIED, session.status, made)
            return
        kind = fault_types.of_refusal(session.code, session.status, ending.by)
        self._fault(session, kind, session.status, {})

    def _exceeded(self, session: Session, what: tuple[str, str, str, str], count: int) -> None:
        method, level, tier, action = what
        made: dict[str, Property]
        made = {"method": method, "level": level.lower(), "tier": tier, "action": action}
        self._fault(session, fault_types.of_level(level), 429, made | {"messages": count})

    def _fault(
        self, session: Session, kind: FaultType, status: int, properties: dict[str, Property]
    ) -> None:
        common = self._common(session)
        if kind.type == "AUTH":
            common |= dict.fromkeys(
                ("application_id", "application_name", "application_owner"), UNKNOWN
            )
        self._analytics.record(
            FaultEvent(
                error_type=kind.type,
                error_code=kind.code,
                error_message=kind.message,
                proxy_response_code=status,
                properties=properties,
                **common,
            )
        )

    def _put(
        self,
        session: Session,
        method: Any,  # noqa: ANN401 - one of the literals
        template: str,
        properties: dict[str, Any],
        **more: Any,  # noqa: ANN401
    ) -> None:
        route, caller = session.route, session.caller
        assert route is not None
        self._analytics.record(
            ResponseEvent(
                api_context=route.api.base_path,
                api_method=method,
                api_resource_template=template,
                destination=session.backend or UNKNOWN,
                user_name=cut(caller.subject if caller else "") or UNKNOWN,
                user_ip=session.info.address or UNKNOWN,
                properties=properties,
                **self._common(session),
                **more,
            )
        )

    def _common(self, session: Session) -> dict[str, Any]:
        route, caller = session.route, session.caller
        assert route is not None
        api = route.api
        tenant = api.context.split("/")[2] if api.context.startswith("/t/") else "carbon.super"
        known = caller is not None and not caller.anonymous
        application = caller.application if caller is not None and known else None
        browser, platform = families_of(session.info.user_agent)
        return {
            "api_id": api.id,
            "api_name": api.name,
            "api_version": api.version,
            "api_creator": cut(caller.subscription.publisher if caller else "") or UNKNOWN,
            "api_creator_tenant_domain": tenant,
            "organization_id": api.organization,
            "application_id": cut(application.uuid) if application else ANONYMOUS,
            "application_name": cut(application.name) if application else ANONYMOUS,
            "application_owner": (cut(application.owner) or UNKNOWN) if application else ANONYMOUS,
            "key_type": cut(caller.key_type) if caller and known else ANONYMOUS,
            "correlation_id": session.request_id,
            "region_id": self._region,
            "request_timestamp": timestamp(time.time()),
            "user_agent": browser,
            "platform": platform,
        }


def _lanes(session: Session) -> tuple[tuple[str, Lane], tuple[str, Lane]]:
    assert session.publish is not None
    assert session.subscribe is not None
    return (_IN, session.publish), (_OUT, session.subscribe)


def _topic(session: Session) -> str:
    assert session.route is not None
    return session.route.topic.name


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
