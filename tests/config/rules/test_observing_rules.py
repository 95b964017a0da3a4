"""Rules of the tables for observability: logs, metrics, traces, analytics."""

from __future__ import annotations

from typing import Any

import pytest

from trio_gw.config.observing import (
    AnalyticsSettings,
    LogSettings,
    MetricsSettings,
    TracingSettings,
)
from trio_gw.config.rules import observing
from trio_gw.config.settings import Settings


def faults(**tables: Any) -> list[tuple[tuple[str | int, ...], str]]:
    return [(fault.path, fault.what) for fault in observing.check(Settings(**tables))]


def test_the_defaults_and_every_choice_are_fine() -> None:
    assert faults() == []
    assert faults(log=LogSettings("json", "debug", "reference")) == []
    assert faults(log=LogSettings("text", "error", "off")) == []


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (LogSettings(format="xml"), "format"),
        (LogSettings(level="INFO"), "level"),
        (LogSettings(access="common"), "access"),
    ],
)
def test_a_log_that_cannot_be(table: LogSettings, key: str) -> None:
    ((path, what),) = faults(log=table)
    assert path == ("log", key)
    assert "is not known" in what


@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        (MetricsSettings(listen="9091"), "listen", "a port is missing"),
        (MetricsSettings(listen=":9091", enabled=False), "listen", "enabled is false"),
        (MetricsSettings(series=0), "series", "1 to 10000"),
        (MetricsSettings(series=10_001), "series", "1 to 10000"),
    ],
)
def test_metrics_that_cannot_be(table: MetricsSettings, key: str, what: str) -> None:
    ((path, said),) = faults(metrics=table)
    assert path == ("metrics", key)
    assert what in said


def test_analytics_with_everything() -> None:
    table = AnalyticsSettings(
        True, detail="frames", sinks=("file", "http"), format="elk", keep=0, url="https://s/e"
    )
    assert faults(analytics=table) == []
    assert "secret" not in repr(AnalyticsSettings(token="secret"))


@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        (AnalyticsSettings(detail="chunks"), "detail", "not known"),
        (AnalyticsSettings(format="xml"), "format", "not known"),
        (AnalyticsSettings(sinks=("kafka",)), "sinks", "not known"),
        (AnalyticsSettings(enabled=True, sinks=()), "sinks", "is empty"),
        (AnalyticsSettings(interval=0.01), "interval", "0.1 seconds or more"),
        (AnalyticsSettings(interval=float("inf")), "interval", "0.1 seconds or more"),
        (AnalyticsSettings(queue=0), "queue", "1 or more"),
        (AnalyticsSettings(batch=0), "batch", "1 or more"),
        (AnalyticsSettings(max_bytes=0), "max_bytes", "1 or more"),
        (AnalyticsSettings(keep=-1), "keep", "0 to 1000"),
        (AnalyticsSettings(keep=10**9), "keep", "0 to 1000"),
        (AnalyticsSettings(file=""), "file", "is empty"),
        *[
            (AnalyticsSettings(sinks=("http",), url=url), "url", "needs one")
            for url in ("", "s/e", "http://", "http://[::1", "https://s:99999/", "http://s/a b")
        ],
        (AnalyticsSettings(token="schlüssel"), "token", "only printable ASCII"),
        (AnalyticsSettings(token="line\n"), "token", "only printable ASCII"),
    ],
)
def test_analytics_that_cannot_be(table: AnalyticsSettings, key: str, what: str) -> None:
    ((path, said),) = faults(analytics=table)
    assert path == ("analytics", key)
    assert what in said


def test_tracing_with_everything() -> None:
    for endpoint in ("console", "http://localhost:4318/v1/traces", "https://c.example/x"):
        assert faults(tracing=TracingSettings(endpoint, sample_ratio=0.25, service_name="s")) == []


@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        (TracingSettings("localhost:4318"), "endpoint", "not an http:// or https:// URL"),
        (TracingSettings("http:///v1/traces"), "endpoint", "not an http:// or https:// URL"),
        (TracingSettings("http://[/"), "endpoint", "not an http:// or https:// URL"),
        (TracingSettings("http://user:word@c/x"), "endpoint", "holds a user name or password"),
        (TracingSettings(sample_ratio=1.5), "sample_ratio", "0 to 1"),
        (TracingSettings(sample_ratio=float("nan")), "sample_ratio", "0 to 1"),
        (TracingSettings(service_name=" "), "service_name", "is empty"),
    ],
)
def test_tracing_that_cannot_be(table: TracingSettings, key: str, what: str) -> None:
    ((path, said),) = faults(tracing=table)
    assert path == ("tracing", key)
    assert what in said
    assert "word" not in said.replace("password", "")
