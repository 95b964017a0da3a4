"""Builds, runs and flushes the observers of connections: metrics, analytics and traces."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import trio

import trio_gw
from trio_gw.proxy.analytics_observer import AnalyticsObserver
from trio_gw.proxy.ending_log import EndingLog
from trio_gw.proxy.process_gauges import ProcessGauges
from trio_gw.proxy.stats_observer import StatsObserver
from trio_gw.proxy.tracing_observer import TracingObserver
from trio_gw.supervision.background import BackgroundTasks, TaskName
from trio_gw.telemetry import families, logs, tracing
from trio_gw.telemetry.analytics import Analytics
from trio_gw.telemetry.file_sink import FileSink
from trio_gw.telemetry.history import History
from trio_gw.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio_gw.config.observing import AnalyticsSettings
    from trio_gw.config.settings import Settings
    from trio_gw.feed.catalog import Catalog
    from trio_gw.proxy.balancer import Balancers
    from trio_gw.proxy.services import Observer, Services
    from trio_gw.proxy.sessions import Sessions
    from trio_gw.telemetry.analytics import Sink
    from trio_gw.telemetry.metrics import Snapshot
    from trio_gw.workers.shared_state import SharedState


class Observers:
    """The observers that the settings ask for. Raises `UnusableError` if a library is missing."""

    def __init__(
        self,
        settings: Settings,
        base: Path,
        shared_state: SharedState,
        sessions: Sessions,
        background: BackgroundTasks,
    ) -> None:
        self.endings = EndingLog()
        self.history: History | None = None
        observers: list[Observer] = [self.endings]
        self.metrics: Metrics | None = None
        self._stats_observer: StatsObserver | None = None
        if settings.metrics.enabled:
            self.metrics = Metrics(
                shared_state.pages, shared_state.index, series=settings.metrics.series
            )
            self.history = History()
            self._stats_observer = StatsObserver(self.metrics, sessions, self.history)
            self.metrics.probes.append(self._put_dropped_lines)
            self.metrics.common = partial(_silence, shared_state)
            counted = self.metrics
            background.on_failure = lambda part: counted.add(families.FAILURES, (part.value,))
            observers.append(self._stats_observer)
        self._analytics = self._analytics_observer = None
        table = settings.analytics
        if table.enabled:
            self._analytics = _analytics(table, base, shared_state.index, self.metrics)
            self._analytics_observer = AnalyticsObserver(
                self._analytics,
                sessions,
                frames=table.detail == "frames",
                interval=table.interval,
                region=table.region,
            )
            observers.append(self._analytics_observer)
        self._tracing = self._tracing_observer = None
        if settings.tracing.endpoint:
            self._tracing = _tracing(settings, shared_state.index, self.metrics)
            self._tracing_observer = TracingObserver(self._tracing)
            observers.append(self._tracing_observer)
        self._observers = tuple(observers)

    def _put_dropped_lines(self) -> None:
        assert self.metrics is not None
        for queue, count in zip(("log", "access-log"), logs.dropped(), strict=True):
            self.metrics.put(families.DROPPED, (queue,), count)

    def attach(self, services: Services, balancers: Balancers, catalog: Catalog) -> Services:
        """Return the services with these observers."""
        if self.metrics is not None:
            ProcessGauges(self.metrics, services, balancers, lambda: catalog.problems)
        return services._replace(observers=self._observers, tracing_observer=self._tracing_observer)

    @contextlib.asynccontextmanager
    async def threads(self) -> AsyncIterator[None]:
        """Run the threads of the observers while the context lasts."""
        with self._tracing or contextlib.nullcontext():
            yield

    def start(self, nursery: trio.Nursery, background: BackgroundTasks) -> None:
        """Start the tasks."""
        if self._stats_observer is not None:
            nursery.start_soon(background.keep, TaskName.METRICS, self._stats_observer.run)
        if self._analytics is not None and self._analytics_observer is not None:
            nursery.start_soon(self._analytics.run, background)
            nursery.start_soon(background.keep, TaskName.REPORTS, self._analytics_observer.run)

    async def flush(self) -> None:
        """Send what is still queued, within a few seconds."""
        async with trio.open_nursery() as nursery:
            if self._analytics is not None:
                nursery.start_soon(self._analytics.flush)
            if self._tracing is not None:
                nursery.start_soon(self._tracing.flush)


def _silence(shared_state: SharedState) -> Snapshot:
    """Return the workers that do not respond; such a worker cannot report it itself."""
    numbers: Snapshot = {families.UNRESPONSIVE.name: {}, families.KILLED.name: {}}
    for number, (seconds, killed) in enumerate(shared_state.silent_seconds(), 1):
        numbers[families.UNRESPONSIVE.name][str(number),] = [float(seconds)]
        numbers[families.KILLED.name][str(number),] = [float(killed)]
    return numbers


def _analytics(
    table: AnalyticsSettings, base: Path, index: int, metrics: Metrics | None
) -> Analytics:
    """Build the sinks of analytics. Each worker has its own file."""
    sinks: dict[str, Sink] = {}
    if "file" in table.sinks:
        path = base / table.file
        if index:
            path = path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
        sinks["file"] = FileSink(path, table.format, table.max_bytes, table.keep)
    if "http" in table.sinks:
        from trio_gw.telemetry.http_sink import HttpSink  # imports an HTTP client

        sinks["http"] = HttpSink(table.url, table.token)

    def dropped(name: str, count: int) -> None:
        if metrics is not None:
            metrics.add(families.DROPPED, (f"analytics-{name}",), count)

    return Analytics(sinks, dropped, queue=table.queue, batch=table.batch)


def _tracing(settings: Settings, index: int, metrics: Metrics | None) -> tracing.Tracing:
    table = settings.tracing
    tracing.require(table.endpoint)
    made = tracing.Tracing(
        table.endpoint,
        sample_ratio=table.sample_ratio,
        service_name=table.service_name,
        version=trio_gw.__version__,
        worker=index + 1,
    )
    if metrics is not None:
        shown = metrics
        shown.probes.append(lambda: shown.put(families.DROPPED, ("traces",), made.dropped))
    return made
