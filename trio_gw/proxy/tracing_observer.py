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
    from trio_gw.telemetry.tracing import Attributes, Trace, Tracing
    from trio_gw.wire.head import RequestHead

HEADERS = frozenset((b"traceparent", b"tracestate"))


class TracingObserver:
    """Creates a trace for each session."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._traces: dict[Session, Trace] = {}

    def begin(self, session: Session, head: RequestHead) -> None:
        """Start the trace of a request; it begins when its connection was accepted."""
        parents, states = head.values(b"traceparent"), head.values(b"tracestate")
        self._traces[session] = self._tracing.begin(session.started, parents, states)

    def context_headers(self, session: Session) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers that pass the trace context to the backend."""
        if (trace := self._traces.get(session)) is None:
            return ()
        return trace.asking(_epoch(session, session.phase_ends[-1][1]))

    def opened(self, session: Session) -> None:
        """Finish the trace of a successful handshake."""
        self._finish(session)

    def ended(self, session: Session) -> None:
        """Finish the trace of a failed handshake. Built-in paths have no trace."""
        if session.route is not None or session.ending is not None:
            self._finish(session)
        else:
            self._traces.pop(session, None)

    def _finish(self, session: Session) -> None:
        if (trace := self._traces.pop(session, None)) is None:
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
        trace.finish(name, phases, _without_empty(known), _without_empty(asked), failed=failed)


def _without_empty(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value != ""}


def _epoch(session: Session, moment: float) -> float:
    return session.started + moment - session.opened_at
