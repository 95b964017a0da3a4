"""The history behind the charts: rings of fixed size, and their sum over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.telemetry import history
from trio_gw.telemetry.history import History, Series, merge

if TYPE_CHECKING:
    import pytest

START = 1_800_000_000  # a whole minute
ECHO = ("Echo", "1.0.0")


def tick(kept: History, second: int, **more: float) -> None:
    """End the second that begins `second` seconds after the start."""
    kept.tick(START + second + 1.2, **{"lag": 0.0, "cpu": 0.0, "memory": 0.0, **more})  # type: ignore[arg-type]


def test_each_second_has_a_row() -> None:
    kept = History()
    kept.add_topic(ECHO, 2, 0, (5, 4, 500, 400))
    tick(kept, 0, lag=0.25, memory=1000)
    kept.add_topic(ECHO, 1, 2, (1, 0, 10, 0))
    kept.add(ECHO, history.REFUSED, 3)
    tick(kept, 1)
    found = kept.totals("5m", 3)
    assert (found.step, found.last) == (1, START + 1)
    assert found.columns["open"] == [None, 2, 1]
    assert found.columns["opened"] == [None, 2, 1]
    assert found.columns["closed"] == [None, 0, 2]
    assert found.columns["refused"] == [None, 0, 3]
    assert found.columns["messages_in"] == [None, 5, 1]
    assert found.columns["bytes_out"] == [None, 400, 0]
    assert found.columns["lag"] == [None, 0.25, 0]
    assert len(kept.totals("5m").columns["open"]) == 300


def test_longer_steps_add_counts_and_keep_the_last_level_and_the_peak() -> None:
    kept = History()
    for second in range(60):
        kept.add_topic(ECHO, 1, 0, (2, 0, 0, 0))
        tick(kept, second, lag=0.5 if second == 3 else 0.1, cpu=second + 1.0)
    hour, day = kept.totals("1h", 6), kept.totals("24h", 1)
    assert hour.columns["messages_in"] == [20] * 6
    assert hour.columns["open"] == [10, 20, 30, 40, 50, 60]
    assert hour.columns["lag"] == [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert hour.columns["cpu"] == [9, 10, 10, 10, 10, 10]  # the first value has none before it
    assert day.columns["messages_in"] == [120]
    assert (day.last, day.columns["open"]) == (START // 60, [60])


def test_an_api_has_a_series_while_it_is_used() -> None:
    kept = History()
    kept.add_topic(ECHO, 1, 0, (7, 0, 0, 0))
    for second in range(30):
        tick(kept, second)
    found = kept.of(ECHO, 4)
    assert found.columns["messages_in"] == [0, 7, 0, 0]
    assert found.columns["open"] == [0, 1, 1, 1]
    assert kept.of(("Other", "1"), 2).columns["open"] == [0, 0]
    assert kept.traffic() == {"Echo:1.0.0": [1, 0, 0]}


def test_apis_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_APIS", 2)
    kept = History()
    for place in range(3):
        kept.add((f"Api{place}", "1"), history.REFUSED, 1)
        for second in range(10):
            tick(kept, 10 * place + second)
    assert [sum(kept.of((f"Api{n}", "1")).columns["refused"]) for n in range(3)] == [0, 1, 1]  # type: ignore[arg-type]


def test_a_pause_is_a_gap_and_a_clock_set_back_adds_nothing() -> None:
    kept = History()
    tick(kept, 0)
    tick(kept, 3)
    tick(kept, 2)
    assert kept.totals("5m", 5).columns["open"] == [None, 0, None, None, 0]
    tick(kept, 100_000)
    assert kept.totals("5m", 3).columns["open"] == [None, None, 0]


def test_traffic_that_is_collected_late_is_spread() -> None:
    kept = History()
    tick(kept, 0)
    for second in (1, 2):
        kept.tick(START + second + 1.2, lag=0, cpu=0, memory=0, collected=False)
    kept.add_topic(ECHO, 0, 0, (9, 0, 0, 0))
    tick(kept, 3)
    assert kept.totals("5m", 4).columns["messages_in"] == [0, 3, 3, 3]


def test_processes_are_added_up_to_the_last_common_step() -> None:
    one = Series(1, 10, {"open": [1, 2, 3], "lag": [0.1, 0.2, 0.3]})
    two = Series(1, 9, {"open": [None, 5, 6], "lag": [None, 0.5, 0.1]})
    hung = Series(1, 3, {"open": [100, 100, 100], "lag": [9, 9, 9]})
    found = merge([one, two, hung, Series(1, -1, {})])
    assert found is not None
    assert (found.last, found.columns) == (
        9,
        {"open": [None, 6, 8], "lag": [None, 0.5, 0.2]},
    )
    assert merge([]) is None
