"""Rules of the tables about what a gateway tells of itself."""

from __future__ import annotations

from typing import Any

import pytest

from trio_gw.config.observing import Analytics, Log, Metrics, Tracing
from trio_gw.config.rules import observing
from trio_gw.config.settings import Settings


def faults(**tables: Any) -> list[tuple[tuple[str | int, ...], str]]:
    return [(fault.path, fault.what) for fault in observing.check(Settings(**tables))]


def test_the_defaults_and_every_choice_are_fine() -> None:
    assert faults() == []
    assert faults(log=Log("json", "debug", "reference")) == []
    assert faults(log=Log("text", "error", "off")) == []


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (Log(format="xml"), "format"),
        (Log(level="INFO"), "level"),
        (Log(access="common"), "access"),
    ],
)
def test_a_log_that_cannot_be(table: Log, key: str) -> None:
    ((path, what),) = faults(log=table)
    assert path == ("log", key)
    assert "is not known" in what


@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        (Metrics(listen="9091"), "listen", "a port is missing"),
        (Metrics(listen=":9091", enabled=False), "listen", "enabled is false"),
        (Metrics(series=0), "series", "1 to 10000"),
        (Metrics(series=10_001), "series", "1 to 10000"),
    ],
)
def test_metrics_that_cannot_be(table: Metrics, key: str, what: str) -> None:
    ((path, said),) = faults(metrics=table)
    assert path == ("metrics", key)
    assert what in said


def test_analytics_with_everything() -> None:
    table = Analytics(
        True, detail="frames", sinks=("file", "http"), format="elk", keep=0, url="https://s/e"
    )
    assert faults(analytics=table) == []
    assert "secret" not in repr(Analytics(token="secret"))


@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        (Analytics(detail="chunks"), "detail", "not known"),
        (Analytics(format="xml"), "format", "not known"),
        (Analytics(sinks=("kafka",)), "sinks", "not known"),
        (Analytics(enabled=True, sinks=()), "sinks", "is empty"),
        (Analytics(interval=0.01), "interval", "0.1 seconds or more"),
        (Analytics(interval=float("inf")), "interval", "0.1 seconds or more"),
        (Analytics(queue=0), "queue", "1 or more"),
        (Analytics(batch=0), "batch", "1 or more"),
        (Analytics(max_bytes=0), "max_bytes", "1 or more"),
        (Analytics(keep=-1), "keep", "0 to 1000"),
        (Analytics(keep=10**9), "keep", "0 to 1000"),
        (Analytics(file=""), "file", "is empty"),
        *[
            (Analytics(sinks=("http",), url=url), "url", "needs one")
            for url in ("", "s/e", "http://", "http://[::1", "https://s:99999/", "http://s/a b")
        ],
        (Analytics(token="schlüssel"), "token", "only printable ASCII"),
        (Analytics(token="line\n"), "token", "only printable ASCII"),
    ],
)
def test_analytics_that_cannot_be(table: Analytics, key: str, what: str) -> None:
    ((path, said),) = faults(analytics=table)
    assert path == ("analytics", key)
    assert what in said


def test_tracing_with_everything() -> None:
    for endpoint in ("console", "http://localhost:4318/v1/traces", "https://c.example/x"):
        assert faults(tracing=Tracing(endpoint, sample_ratio=0.25, service_name="s")) == []


@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        (Tracing("localhost:4318"), "endpoint", "no http:// or https:// URL"),
        (Tracing("http:///v1/traces"), "endpoint", "no http:// or https:// URL"),
        (Tracing("http://[/"), "endpoint", "no http:// or https:// URL"),
        (Tracing("http://user:word@c/x"), "endpoint", "holds a user name or password"),
        (Tracing(sample_ratio=1.5), "sample_ratio", "0 to 1"),
        (Tracing(sample_ratio=float("nan")), "sample_ratio", "0 to 1"),
        (Tracing(service_name=" "), "service_name", "is empty"),
    ],
)
def test_tracing_that_cannot_be(table: Tracing, key: str, what: str) -> None:
    ((path, said),) = faults(tracing=table)
    assert path == ("tracing", key)
    assert what in said
    assert "word" not in said.replace("password", "")
