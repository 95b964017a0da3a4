"""The way of spans to a collector: bounded, on a thread of its own, with an end in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from support.collector import start_collector
from support.logged import configured
from trio_gw.telemetry.outbox import BATCH, LINGER, QUEUE
from trio_gw.telemetry.tracing import Tracing

if TYPE_CHECKING:
    import pytest

PHASES = [("head", 1.0, 2.0), ("dial", 2.0, 3.0)]
EACH = len(PHASES) + 1


def make(endpoint: str) -> Tracing:
    return Tracing(endpoint, sample_ratio=1.0, service_name="t", version="1", worker=1)


def tell(spans: Tracing, count: int) -> None:
    for _ in range(count):
        spans.begin(1.0, (), ()).finish("GET", PHASES, {"a": 1}, {})


async def test_a_collector_that_never_answers_costs_memory_and_time_within_bounds(
    nursery: trio.Nursery,
) -> None:
    collector = await start_collector(nursery)
    collector.deaf = True
    with make(collector.url) as spans:
        count = 3 * QUEUE // EACH
        tell(spans, count)
        assert EACH * count - QUEUE - BATCH <= spans.dropped <= EACH * count - QUEUE
        before = trio.current_time()
        await spans.flush(0.2)
        assert trio.current_time() - before < 2
        # Of the batch that is on its way nobody knows what became.
        assert EACH * count - BATCH <= spans.dropped <= EACH * count
        tell(spans, 1)
        assert spans.dropped > EACH * count - BATCH, "what comes too late is counted as well"


async def test_a_flush_sends_everything_in_batches(nursery: trio.Nursery) -> None:
    collector = await start_collector(nursery)
    count = 2 * BATCH
    with make(collector.url) as spans:
        tell(spans, count)
        await spans.flush()
        assert spans.dropped == 0
    assert len(collector.spans) == EACH * count


async def test_an_end_without_a_flush_ends_the_thread(
    nursery: trio.Nursery,
) -> None:
    collector = await start_collector(nursery)
    with trio.CancelScope() as scope, make(collector.url) as spans:
        tell(spans, 10)
        scope.cancel()
        await trio.sleep_forever()
    with trio.fail_after(10):
        await trio.to_thread.run_sync(spans.outbox.join)


async def test_the_loop_does_not_wait_for_the_thread(nursery: trio.Nursery) -> None:
    """Telling of a request takes the same while the thread is stuck."""
    collector = await start_collector(nursery)
    collector.deaf = True
    with make(collector.url) as spans:
        tell(spans, QUEUE)
        slowest = 0.0
        for _ in range(20):
            before = time.perf_counter()
            tell(spans, 1)
            slowest = max(slowest, time.perf_counter() - before)
        assert slowest < LINGER
        await spans.flush(0)


def test_the_console_needs_no_collector(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        with make("console") as spans:
            tell(spans, 1)
            await spans.flush()

    with configured():
        trio.run(run)
    assert capsys.readouterr().out.count('"trace_id"') >= EACH
