"""Rules of the tables about what a gateway tells of itself."""

from __future__ import annotations

from typing import Any

import pytest

from trio_gw.config.observing import Log, Metrics
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
