"""Turns handshakes into traces: one span per handshake, with a child span for each phase.

An observer, like `stats_observer`. `upstream_request` sends the span's id to the backend, so that
the backend's spans become its children. If the client sends a trace context, all spans join that
trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Phase

if TYPE_CHECKING:
    from trio_gw.proxy.sessions import Session
    from trio_gw.telemetry.tracing import Attributes, Tracing
    from trio_gw.wire.head import RequestHead

HEADERS = frozenset((b"traceparent", b"tracestate"))


class TracingObserver:
    """Makes traces of sessions."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def begin(self, session: Session, head: RequestHead) -> None:
        """Begin the trace of a request; it lies back as far as its connection."""
        parents, states = head.values(b"traceparent"), head.values(b"tracestate")
        session.trace = self._tracing.begin(session.started, parents, states)

    def asking(self, session: Session) -> tuple[tuple[bytes, bytes], ...]:
        """Give the headers that tell a backend for which span it works."""
        if session.trace is None:
            return ()
        return session.trace.asking(_epoch(session, session.phase_ends[-1][1]))

    def opened(self, session: Session) -> None:
        """Tell of a handshake that came to its good end."""
        self._finish(session)

    def ended(self, session: Session) -> None:
        """Tell of one that did not; not of what is no handshake: built-in paths."""
        if session.route is not None or session.ending is not None:
            self._finish(session)

    def _finish(self, session: Session) -> None:
        trace, session.trace = session.trace, None
        if trace is None:
            return
        phase_ends = session.phase_ends
        if session.phase is not Phase.RELAY:
            phase_ends = [*phase_ends, (session.phase, trio.current_time())]
        phases, last = [], session.opened_at
        for phase, left in phase_ends:
            phases.append((phase.value, _epoch(session, last), _epoch(session, left)))
            last = left
        method, _, path = session.request.partition(" ")
        route, info = session.route, session.info
        known: Attributes = {
            "http.request.method": method,
            "url.path": path,
            "client.address": info.address,
            "user_agent.original": info.user_agent,
            "server.address": info.vhost,
            "trio_gw.request_id": session.request_id,
            "trio_gw.error": session.code,
        }
        name = method
        if session.status:
            known["http.response.status_code"] = session.status
        if route is not None:
            template = route.api.base_path + route.topic.name
            name = f"{method} {template}"
            known |= {"http.route": template, "trio_gw.api": route.api.name}
            known["trio_gw.version"] = route.api.version
        failed = ""
        if (ending := session.ending) is not None:
            known["error.type"] = session.code or str(session.status or ending.by.value)
            known["trio_gw.reason"] = ending.reason
            if session.status >= 500:
                failed = ending.reason
        asked: Attributes = {"trio_gw.backend": session.backend, "url.path": session.backend_path}
        trace.finish(name, phases, _told(known), _told(asked), failed=failed)


def _told(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value != ""}


def _epoch(session: Session, moment: float) -> float:
    return session.started + moment - session.opened_at
