"""Finished spans on their way to a collector, by OpenTelemetry's exporters.

They go through a bounded queue to a thread of its own, which sends them; so no connection ever
waits for a collector, and nothing is held beyond the queue.
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
QUEUE = 4096  # spans that wait to be sent
BATCH = 512
LINGER = 0.5  # seconds for which a batch waits for more
TIMEOUT = 10.0  # seconds for a batch, with what is tried again


class Outbox:
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


class _Console:
    """Standard output, for the library: a thread that is stuck there could not be ended."""

    def write(self, text: str) -> None:
        logs.show(text.rstrip("\n"))

    def flush(self) -> None:
        """Nothing is held back here."""


def _exporter(endpoint: str) -> SpanExporter:
    if endpoint == CONSOLE:
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=_Console())  # type: ignore[arg-type]
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint, timeout=TIMEOUT)
