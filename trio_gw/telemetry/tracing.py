"""Spans of OpenTelemetry: the one door to its library, which is optional (`trio-gw[otel]`).

A trace is begun when a request has come, and told of when its handshake is over, from the times
that were noted anyway. What is finished goes through a bounded queue to a thread of its own,
which sends it; so no connection ever waits for a collector, and nothing is held beyond the queue.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

log = logging.getLogger("trio_gw.tracing")

CONSOLE = "console"
QUEUE = 4096  # spans that wait to be sent
BATCH = 512
LINGER = 0.5  # seconds for which a batch waits for more
TIMEOUT = 10.0  # seconds for a batch, with what is tried again
FLUSH = 3.0  # seconds there are at the end
MAX_TEXT = 256  # characters of an attribute
MAX_PARENT, MAX_STATE = 256, 512  # characters of what a client may say; longer counts for none

Attributes = dict[str, str | int]


def require(endpoint: str) -> None:
    """Raise `UnusableError` if traces are asked for, and the library is not installed."""
    try:
        there = not endpoint or all(
            importlib.util.find_spec(name)
            for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
        )
    except ImportError:
        there = False
    if not there:
        what = "tracing.endpoint is set, but OpenTelemetry is not installed"
        mend = "run: pip install 'trio-gw[otel]'; or leave [tracing] out"
        raise UnusableError([Problem("gateway.toml", 0, 0, what, mend)])


class Trace:
    """One request: a span of its own, and what happened in it."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._within = tracing.within(span)
        self._asking: Span | None = None

    def asking(self, started: float) -> tuple[tuple[bytes, bytes], ...]:
        """Begin asking the backend; returns the headers that tell it so, always the same."""
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
        """Tell what became of the request: its phases by name, when each began and ended.

        Times are epoch seconds. `asked` are attributes of the span that asks the backend;
        `failed` says what was wrong on this side of the client, if anything was.
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
    """What makes spans, and the thread that sends them. A context: at its end the thread ends."""

    def __init__(
        self, endpoint: str, *, sample_ratio: float, service_name: str, version: str, worker: int
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.outbox = outbox = _Outbox(endpoint)
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
        """Begin a trace, or go on with the one that a request's `traceparent` names.

        A header that is not valid, or there twice, counts for none (W3C Trace Context).
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
        """Write what tells others that they work for this span."""
        carrier: dict[str, str] = {}
        self._context.inject(carrier, self.within(span))
        return tuple((name.encode(), value.encode("latin-1")) for name, value in carrier.items())

    @property
    def dropped(self) -> int:
        """Count the spans that could not be sent."""
        return self.outbox.dropped

    async def flush(self, seconds: float = FLUSH) -> None:
        """Give the thread so many seconds for what waits; the rest is dropped, and counted."""
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


class _Outbox:
    """Finished spans on their way: a bounded queue, and the thread that empties it."""

    def __init__(self, endpoint: str) -> None:
        self._exporter = _exporter(endpoint)
        self._endpoint = endpoint
        self._waiting: queue.Queue[ReadableSpan | None] = queue.Queue(QUEUE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._heard = _Heard()
        self._full = self._failed = 0  # spans lost; each is counted by one thread alone
        self._failing = False
        self._gave_up = False

    @property
    def dropped(self) -> int:
        return self._full + self._failed

    def put(self, span: ReadableSpan) -> None:
        """Take a span; a full queue drops it. Never waits."""
        try:
            if self._stopping.is_set():
                raise queue.Full
            self._waiting.put_nowait(span)
        except queue.Full:
            self._full += 1

    def start(self) -> None:
        library = logging.getLogger("opentelemetry")
        library.handlers[:] = [self._heard]
        library.propagate = False
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end when it has sent what waits."""
        if not self._stopping.is_set():
            self._stopping.set()
            with contextlib.suppress(queue.Full):  # then it is awake
                self._waiting.put_nowait(None)

    def join(self) -> None:
        self._thread.join()

    def give_up(self) -> None:
        """Count what still waits as dropped, and try nothing again."""
        if self._gave_up:
            return
        self._gave_up = True
        while True:
            try:
                self._full += self._waiting.get_nowait() is not None
            except queue.Empty:
                break
        self._waiting.put_nowait(None)  # in case it was asleep
        self._exporter.shutdown()
        if self.dropped:
            log.error("%d spans could not be sent to %s", self.dropped, self._endpoint)

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._waiting.empty()):
            if batch := self._gather():
                self._send(batch)

    def _gather(self) -> list[ReadableSpan]:
        batch: list[ReadableSpan] = []
        until = 0.0
        while len(batch) < BATCH:
            try:
                if self._stopping.is_set():
                    span = self._waiting.get_nowait()
                elif batch:
                    span = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
                else:
                    span = self._waiting.get()
            except queue.Empty:
                break
            if span is not None:
                until = until or time.monotonic() + LINGER
                batch.append(span)
        return batch

    def _send(self, batch: list[ReadableSpan]) -> None:
        self._heard.last = ""
        try:
            sent = self._exporter.export(batch).name == "SUCCESS"
        except Exception as error:
            sent = False
            self._heard.last = f"{type(error).__name__}: {error}"
        if not sent:
            self._failed += len(batch)
            if not self._failing:
                log.error("spans cannot be sent to %s: %s", self._endpoint, self._heard.last)
        elif self._failing:
            log.info("spans are sent to %s again; %d were lost", self._endpoint, self.dropped)
        self._failing = not sent


class _Heard(logging.Handler):
    """Keeps the library's last complaint; each of them would be a line, and clients cause some."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def _exporter(endpoint: str) -> SpanExporter:
    if endpoint == CONSOLE:
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stdout)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint, timeout=TIMEOUT)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
