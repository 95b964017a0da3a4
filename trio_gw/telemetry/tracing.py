"""OpenTelemetry spans. Only this module and `outbox`, which sends them, import the library.

The library is optional (`trio-gw[otel]`). A trace begins when a request arrives. Its spans are
written after the handshake, from the times that the session records anyway.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Problem, UnusableError
from trio_gw.telemetry.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

FLUSH = 3.0  # seconds to send spans when the gateway stops
MAX_TEXT = 256  # characters of an attribute
MAX_PARENT, MAX_STATE = 256, 512  # characters of headers from clients; longer ones are ignored

Attributes = dict[str, str | int]


def require(endpoint: str) -> None:
    """Raise `UnusableError` if tracing is on and the library is not installed."""
    try:
        there = not endpoint or all(
            importlib.util.find_spec(name)
            for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
        )
    except ImportError:
        there = False
    if not there:
        what = "tracing.endpoint is set, but OpenTelemetry is not installed"
        hint = "run: pip install 'trio-gw[otel]'; or leave [tracing] out"
        raise UnusableError([Problem("gateway.toml", 0, 0, what, hint)])


class Trace:
    """The span of one request, with its child spans."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._within = tracing.within(span)
        self._asking: Span | None = None

    def asking(self, started: float) -> tuple[tuple[bytes, bytes], ...]:
        """Begin the span of the backend request; return its headers, the same at each call."""
        if self._asking is None:
            self._asking = self._tracing.child(self._within, "dial", started, asking=True)
        return self._tracing.headers(self._asking)

    def finish(
        self,
        name: str,
        phases: Sequence[tuple[str, float, float]],
        attributes: Attributes,
        asked: Attributes,
        *,
        failed: str = "",
    ) -> None:
        """Write the spans of the request: its phases by name, with their begin and end.

        Times are epoch seconds. `asked` are the attributes of the span for the backend. `failed`
        is the reason if the gateway failed, else empty.
        """
        from opentelemetry.trace import Status, StatusCode

        span, asking = self._span, self._asking
        end = phases[-1][2]
        if span.is_recording():
            for phase, begun, ended in phases:
                child = asking if phase == "dial" else None
                child = child or self._tracing.child(self._within, phase, begun)
                if child is asking:
                    child.set_attributes(asked)
                child.end(_nanoseconds(ended))
            span.update_name(name)
            span.set_attributes(attributes)
            if failed:
                span.set_status(Status(StatusCode.ERROR, failed))
        span.end(_nanoseconds(end))


class Tracing:
    """Makes spans, and runs the thread that sends them while the context lasts."""

    def __init__(
        self, endpoint: str, *, sample_ratio: float, service_name: str, version: str, worker: int
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.outbox = outbox = Outbox(endpoint)
        resource = Resource.create(
            {
                "service.name": service_name,
                "service.version": version,
                "service.instance.id": f"{os.uname().nodename}:{worker}",
            }
        )

        class Processor(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                outbox.put(span)

        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=resource,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=MAX_TEXT),
        )
        provider.add_span_processor(Processor())
        self._tracer = provider.get_tracer("trio_gw", version)
        self._context = TraceContextTextMapPropagator()
        self._server, self._client = SpanKind.SERVER, SpanKind.CLIENT
        self._inside = SpanKind.INTERNAL
        self.within = set_span_in_context

    def begin(self, started: float, parents: Sequence[bytes], states: Sequence[bytes]) -> Trace:
        """Begin a trace, or continue the one that a request's `traceparent` names.

        A header that is invalid or appears twice is ignored (W3C Trace Context).
        """
        context = None
        if len(parents) == 1 and len(parents[0]) <= MAX_PARENT:
            state = b",".join(states).decode("latin-1")
            carrier = {
                "traceparent": [parents[0].decode("latin-1")],
                "tracestate": [state] if len(state) <= MAX_STATE else [],
            }
            context = self._context.extract(carrier)
        begun = _nanoseconds(started)
        span = self._tracer.start_span("GET", context, self._server, start_time=begun)
        return Trace(self, span)

    def child(self, within: Context, name: str, started: float, *, asking: bool = False) -> Span:
        """Begin a span within another."""
        kind = self._client if asking else self._inside
        return self._tracer.start_span(name, within, kind, start_time=_nanoseconds(started))

    def headers(self, span: Span) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers that name this span to others."""
        carrier: dict[str, str] = {}
        self._context.inject(carrier, self.within(span))
        return tuple((name.encode(), value.encode("latin-1")) for name, value in carrier.items())

    @property
    def dropped(self) -> int:
        """Return how many spans could not be sent."""
        return self.outbox.dropped

    async def flush(self, seconds: float = FLUSH) -> None:
        """Give the thread so many seconds for the queued spans; drop and count the rest."""
        self.outbox.stop()
        with trio.move_on_after(seconds):
            await trio.to_thread.run_sync(self.outbox.join, abandon_on_cancel=True)
        self.outbox.give_up()

    def __enter__(self) -> Tracing:
        self.outbox.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.outbox.stop()
        self.outbox.give_up()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
