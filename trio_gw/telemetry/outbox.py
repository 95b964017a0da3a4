"""Sends finished spans to a collector, with OpenTelemetry's exporters.

A bounded queue leads to a thread that sends the spans. So no connection waits for a collector, and
memory is limited by the queue.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from trio_gw.telemetry import logs

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger("trio_gw.tracing")

CONSOLE = "console"
QUEUE = 4096  # spans in the queue
BATCH = 512
LINGER = 0.5  # seconds to wait for more spans
TIMEOUT = 10.0  # seconds for a batch, retries included


class Outbox:
    """A bounded queue of finished spans, and the thread that sends them."""

    def __init__(self, endpoint: str) -> None:
        self._exporter = _exporter(endpoint)
        self._endpoint = endpoint
        self._waiting: queue.Queue[ReadableSpan | None] = queue.Queue(QUEUE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._last_error = _LastError()
        self._full = self._failed = 0  # lost spans; each counter is written by one thread only
        self._failing = False
        self._gave_up = False

    @property
    def dropped(self) -> int:
        return self._full + self._failed

    def put(self, span: ReadableSpan) -> None:
        """Queue a span; drop it if the queue is full. Never blocks."""
        try:
            if self._stopping.is_set():
                raise queue.Full
            self._waiting.put_nowait(span)
        except queue.Full:
            self._full += 1

    def start(self) -> None:
        library = logging.getLogger("opentelemetry")
        library.handlers[:] = [self._last_error]
        library.propagate = False
        self._thread.start()

    def stop(self) -> None:
        """End the thread after it has sent the queued spans."""
        if not self._stopping.is_set():
            self._stopping.set()
            with contextlib.suppress(queue.Full):  # then the thread is awake
                self._waiting.put_nowait(None)

    def join(self) -> None:
        self._thread.join()

    def give_up(self) -> None:
        """Count the queued spans as dropped, and send nothing again."""
        if self._gave_up:
            return
        self._gave_up = True
        while True:
            try:
                self._full += self._waiting.get_nowait() is not None
            except queue.Empty:
                break
        self._waiting.put_nowait(None)  # wakes the thread
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
        self._last_error.last = ""
        try:
            sent = self._exporter.export(batch).name == "SUCCESS"
        except Exception as error:
            sent = False
            self._last_error.last = f"{type(error).__name__}: {error}"
        if not sent:
            self._failed += len(batch)
            if not self._failing:
                log.error("spans cannot be sent to %s: %s", self._endpoint, self._last_error.last)
        elif self._failing:
            log.info("spans are sent to %s again; %d were lost", self._endpoint, self.dropped)
        self._failing = not sent


class _LastError(logging.Handler):
    """Keeps the last error of the library. Its log lines are too many; clients cause some."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


class _Console:
    """Standard output for the library, through our writer, which never blocks."""

    def write(self, text: str) -> None:
        logs.show(text.rstrip("\n"))

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def _exporter(endpoint: str) -> SpanExporter:
    if endpoint == CONSOLE:
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=_Console())  # type: ignore[arg-type]
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint, timeout=TIMEOUT)
