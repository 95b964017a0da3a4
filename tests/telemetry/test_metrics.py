"""Metrics: bounded, added up over processes, written as the format has it, and all documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from support.numbers import samples, total
from trio_gw.escaping import escape
from trio_gw.supervision.shared_memory import Pages
from trio_gw.telemetry import families
from trio_gw.telemetry.families import FAMILIES, FIXED
from trio_gw.telemetry.metrics import Metrics, _Series, merge, pack, retire, unpack

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_number_of_series_is_bounded() -> None:
    metrics = Metrics(series=10)
    for number in range(1000):
        metrics.add(families.MESSAGES, (f"api{number}", "1", "/t", ("in", "out")[number % 2]))
    found = samples(metrics.exposition())["trio_gw_messages_total"]
    assert len(found) == 12
    others = {labels["direction"]: value for labels, value in found if labels["api"] == "other"}
    assert others == {"in": 495, "out": 495}
    assert sum(value for _, value in found) == 1000


def test_histograms_are_cumulative() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.002, 0.3, 99.0):
        metrics.observe(families.PHASES, ("dial",), seconds)
    text = metrics.exposition()
    buckets = {
        labels["le"]: value
        for labels, value in samples(text)["trio_gw_handshake_phase_seconds_bucket"]
    }
    assert (buckets["0.001"], buckets["0.0025"], buckets["0.5"], buckets["+Inf"]) == (1, 2, 3, 4)
    assert total(text, "trio_gw_handshake_phase_seconds_sum") == pytest.approx(99.303)


@given(st.text(max_size=300))
def test_any_label_is_written_as_it_is_shown(text: str) -> None:
    metrics = Metrics()
    metrics.add(families.HANDSHAKES, (text, "1", "101", ""))
    ((labels, value),) = samples(metrics.exposition())["trio_gw_handshakes_total"]
    assert (labels["api"], value) == (escape(text[:200]), 1)


async def test_many_series_are_written_little_by_little_and_as_the_library_does(
    nursery: trio.Nursery,
) -> None:
    metrics = Metrics()
    for number in range(450):
        topic = "a", "1", f"/{number}\n# EOF\n# TYPE x"
        metrics.add(families.OPENED, topic)
        metrics.add(families.HELD, topic, 2)
    for phase in range(450):
        metrics.observe(families.PHASES, (f"p{phase}",), 0.5)
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    nursery.start_soon(work)
    text = await metrics.expose()
    assert turns > len(families.FAMILIES)
    registry = CollectorRegistry(auto_describe=False)
    for family in families.FAMILIES:
        held = list(metrics.snapshot()[family.name].items())
        registry.register(_Series(family, held))
    assert text == metrics.exposition() == generate_latest(registry)


def test_processes_are_added_up_and_the_dead_stay_counted() -> None:
    pages = Pages(2, size=100_000)
    first, second = Metrics(pages, 0), Metrics(pages, 1)
    for metrics, count in ((first, 2), (second, 5)):
        metrics.add(families.OPENED, ("a", "1", "/t"), count)
        metrics.add(families.OPEN, ("a", "1", "/t"), count)
        metrics.observe(families.LAG, (), 0.5)
        metrics.put(families.CPU, (metrics.worker,), count)

    def told(metrics: Metrics) -> list[float]:
        names = "connections_opened_total", "connections_open", "event_loop_lag_seconds_count"
        text = metrics.exposition()
        return [total(text, f"trio_gw_{name}") for name in (*names, "process_cpu_seconds_total")]

    second.publish()
    assert told(first) == [7, 7, 2, 7]
    retire(pages, 1)
    assert told(first) == [7, 2, 2, 7]
    Metrics(pages, 1)  # one that was started again, and died before it had counted anything
    retire(pages, 1)
    assert told(first) == [7, 2, 2, 7]
    third = Metrics(pages, 1)
    assert told(third) == [7, 2, 2, 7]
    third.add(families.OPENED, ("a", "1", "/t"), 10)
    third.observe(families.LAG, (), 0.5)
    third.put(families.CPU, (third.worker,), 1)
    assert told(third) == told(first) == [17, 2, 3, 8]


def test_what_was_told_once_is_not_lost_with_who_told_it() -> None:
    pages = Pages(2, size=100_000)
    first, second = Metrics(pages, 0), Metrics(pages, 1)
    second.publish()
    second.add(families.OPENED, ("a", "1", "/t"), 5)  # and then it dies, before it publishes again
    before = total(second.exposition(), "trio_gw_connections_opened_total")
    retire(pages, 1)
    assert total(first.exposition(), "trio_gw_connections_opened_total") == before == 5


def test_a_snapshot_that_does_not_fit_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    pages = Pages(2, size=64)
    metrics = Metrics(pages, 0)
    for number in range(100):
        metrics.add(families.OPENED, (f"api{number}", "1", "/t"))
    metrics.publish()
    metrics.publish()
    assert pages.read(0) == b""
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]


def test_a_page_torn_in_two_is_not_believed() -> None:
    pages = Pages(2, size=1000)
    pages.write(1, b"whole" * 10)
    assert pages.read(1) == b"whole" * 10
    pages._memory[pages._step + 20] ^= 1
    assert pages.read(1) == b""
    assert pages.read(0) == b""


def test_packing_keeps_everything() -> None:
    metrics = Metrics()
    metrics.add(families.OPENED, ("ä", "1", "/t"), 3)
    metrics.observe(families.LAG, (), 0.5)
    assert merge([unpack(pack(metrics.snapshot())), {}]) == {
        name: held for name, held in metrics.snapshot().items() if held
    }


def test_every_metric_is_documented() -> None:
    rows = re.findall(
        r"^\| `(\S+)` \| (\w+) \| (\w*) \| (.*?) \| (.*) \|$",
        (DOCS / "metrics.md").read_text(),
        re.M,
    )
    assert rows == [
        (
            family.name,
            family.kind,
            family.unit,
            ", ".join(f"`{label}`" for label in family.labels),
            family.help,
        )
        for family in FAMILIES
    ]


def test_fixed_labels_exist() -> None:
    assert {label for family in FAMILIES for label in family.labels} >= FIXED - {"queue"}
