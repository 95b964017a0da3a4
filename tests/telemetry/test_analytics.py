"""Queues and sinks of analytics: bounded, patient, and honest about losses."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.backends import start_raw
from support.schemas import FOLDER, made
from trio_gw.telemetry.analytics import LINGER, Analytics, SinkError
from trio_gw.telemetry.events import Event, FaultEvent, encode, families_of, timestamp
from trio_gw.telemetry.file_sink import FileSink
from trio_gw.telemetry.http_sink import HttpSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio.testing import MockClock


def event(number: int) -> FaultEvent:
    common: dict[str, Any] = dict.fromkeys(
        (
            *("api_id", "api_name", "api_version", "api_creator", "api_creator_tenant_domain"),
            *("organization_id", "application_id", "application_name", "application_owner"),
            *("key_type", "correlation_id", "region_id"),
        ),
        "x",
    )
    return FaultEvent(
        **common,
        error_type="OTHER",
        error_code=number,
        error_message="m",
        proxy_response_code=500,
        request_timestamp=timestamp(0),
    )


class Flaky:
    """A sink that fails so many times."""

    def __init__(self, failures: int, *, final: bool = False) -> None:
        self.failures = failures
        self.final = final
        self.got: list[Event] = []

    async def write(self, batch: Sequence[Event]) -> None:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise SinkError("down", final=self.final)
        self.got += batch

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_fails_is_tried_again_in_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lost: Counter[str] = Counter()
    sink = Flaky(9)
    analytics = Analytics(
        {"s": sink}, lambda name, count: lost.update({name: count}), queue=50, batch=7
    )
    nursery.start_soon(analytics.run)
    events = [event(number) for number in range(40)]
    for one in events:
        analytics.record(one)
    await analytics.flush(120)
    assert sink.got == events
    assert not lost


async def test_a_full_queue_drops_and_counts(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lost: Counter[str] = Counter()
    sink, other = Flaky(5), Flaky(0)
    sinks = {"s": sink, "other": other}
    analytics = Analytics(sinks, lambda name, count: lost.update({name: count}), queue=10, batch=3)
    nursery.start_soon(analytics.run)
    for number in range(100):
        analytics.record(event(number))
        await trio.testing.wait_all_tasks_blocked()
    await analytics.flush(60)
    assert len(other.got) == 100
    assert len(sink.got) + lost["s"] == 100
    assert 0 < len(sink.got) <= 13
    assert lost["other"] == 0


async def test_a_refused_batch_is_lost_and_the_next_is_not(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lost: Counter[str] = Counter()
    sink = Flaky(1, final=True)
    analytics = Analytics(
        {"s": sink}, lambda name, count: lost.update({name: count}), queue=9, batch=2
    )
    for number in range(5):
        analytics.record(event(number))
    nursery.start_soon(analytics.run)
    await analytics.flush(60)
    assert [one.error_code for one in sink.got if isinstance(one, FaultEvent)] == [2, 3, 4]
    assert lost == {"s": 2}


async def test_what_comes_little_by_little_goes_together(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Each batch costs a request: it waits for more a little, but not when there is plenty."""
    sizes: list[int] = []

    class Sink(Flaky):
        async def write(self, batch: Sequence[Event]) -> None:
            await trio.lowlevel.checkpoint()
            sizes.append(len(batch))

    analytics = Analytics({"s": Sink(0)}, lambda name, count: None, queue=100, batch=10)
    nursery.start_soon(analytics.run)
    start = trio.current_time()
    for number in range(5):
        analytics.record(event(number))
        await trio.sleep(LINGER / 10)
    await trio.sleep(LINGER)
    assert sizes == [5]
    for number in range(35):
        analytics.record(event(number))
    await trio.testing.wait_all_tasks_blocked()
    assert sizes == [5, 10, 10, 10]
    await analytics.flush()
    assert sizes == [5, 10, 10, 10, 5]
    assert trio.current_time() - start == pytest.approx(LINGER * 1.5)


async def test_flush_gives_up_in_time_and_counts_the_rest(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lost: Counter[str] = Counter()
    analytics = Analytics(
        {"s": Flaky(10**9)}, lambda name, count: lost.update({name: count}), queue=9, batch=2
    )
    nursery.start_soon(analytics.run)
    for number in range(5):
        analytics.record(event(number))
    start = trio.current_time()
    await analytics.flush(3)
    assert trio.current_time() - start == 3
    assert lost == {"s": 5}
    analytics.record(event(6))
    assert lost == {"s": 6}


async def test_what_failed_is_tried_once_more_at_the_end(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Whatever pause it is in; and a server that comes back within the last seconds is met."""
    lost: Counter[str] = Counter()
    sink = Flaky(99)
    analytics = Analytics(
        {"s": sink}, lambda name, count: lost.update({name: count}), queue=9, batch=9
    )
    nursery.start_soon(analytics.run)
    analytics.record(event(1))
    await trio.sleep(60)  # the pauses are as long as they get
    assert sink.failures > 80
    sink.failures = 3
    start = trio.current_time()
    await analytics.flush()
    assert sink.got == [event(1)]
    assert trio.current_time() - start < 1
    assert not lost


@pytest.mark.parametrize("final", [True, False])
async def test_losses_are_told_once_in_a_while(
    final: bool,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Flaky(10**9 if final else 0, final=final)
    analytics = Analytics({"s": sink}, lambda name, count: None, queue=1, batch=1)
    nursery.start_soon(analytics.run)
    for _ in range(900):
        for _ in range(5):
            analytics.record(event(1))
        await trio.sleep(0.1)
    told = [text for text in caplog.messages if "events were dropped" in text]
    assert len(told) == 2, "in 90 seconds"
    assert ("down" in told[1]) or ("its queue of 1 is full" in told[1])


async def test_files_are_put_aside(tmp_path: Path) -> None:
    size = len(encode(event(100), "json"))
    sink = FileSink(tmp_path / "logs" / "a.jsonl", "json", 3 * size, 2)
    for number in range(100, 110):
        await sink.write([event(number)])
    found = {
        path.name: [json.loads(line)["errorCode"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "logs").iterdir()
    }
    assert found == {
        "a.jsonl": [109],
        "a.jsonl.1": [106, 107, 108],
        "a.jsonl.2": [103, 104, 105],
    }


async def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = FileSink(tmp_path / "file" / "a.jsonl", "json", 100, 1)
    with pytest.raises(SinkError, match=r"a\.jsonl: Not a directory|a\.jsonl: File exists"):
        await sink.write([event(1)])


async def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    sink = FileSink(tmp_path / "a.jsonl", "json", 100, 1)
    with trio.fail_after(5), pytest.raises(SinkError, match=r"a\.jsonl: not a regular file"):
        await sink.write([event(1)])


async def test_a_full_disk_says_so_and_leaves_no_half_lines(tmp_path: Path) -> None:
    """The limit on the size of files is met as the end of a disk is."""
    sink = FileSink(tmp_path / "a.jsonl", "json", 10**6, 1)
    await sink.write([event(1)])
    size = (tmp_path / "a.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size * 3 // 2, limits[1]))
    try:
        with pytest.raises(SinkError, match=r"a\.jsonl: File too large"):
            await sink.write([event(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await sink.write([event(3)])
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["errorCode"] for line in lines] == [1, 3]


@pytest.mark.parametrize("moved", ["moved", "removed"])
async def test_a_file_that_is_taken_away_is_made_anew(moved: str, tmp_path: Path) -> None:
    """As logrotate does."""
    path = tmp_path / "a.jsonl"
    sink = FileSink(path, "json", 10**6, 1)
    await sink.write([event(1)])
    if moved == "moved":
        path.rename(tmp_path / "old")
    else:
        path.unlink()
    await sink.write([event(2)])
    assert [json.loads(line)["errorCode"] for line in path.read_text().splitlines()] == [2]


async def test_an_answer_without_end_is_not_read_to_its_end(nursery: trio.Nursery) -> None:
    sent = 0

    async def endless(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(100_000))
                sent += 100_000

    server = await start_raw(nursery, endless)
    sink = HttpSink(f"http://127.0.0.1:{server.port}/", "")
    with trio.fail_after(5):
        await sink.write([event(1)])
    assert sent < 100_000_000
    await sink.aclose()


@pytest.mark.parametrize("hangs", [True, False])
async def test_what_was_taken_is_not_sent_again_for_a_broken_answer(
    hangs: bool, nursery: trio.Nursery
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\nok")
        if hangs:
            await trio.sleep_forever()

    server = await start_raw(nursery, serve)
    sink = HttpSink(f"http://127.0.0.1:{server.port}/", "")
    with trio.fail_after(5):
        await sink.write([event(1)])
    await sink.aclose()


def test_the_schemas_are_those_of_the_events() -> None:
    for name, schema in made().items():
        assert json.loads((FOLDER / f"{name}.schema.json").read_text()) == schema


@pytest.mark.parametrize(
    ("text", "families"),
    [
        ("", ("UNKNOWN", "UNKNOWN")),
        ("curl/8.5.0", ("UNKNOWN", "UNKNOWN")),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0", ("Edge", "Windows")),
        (
            "Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36",
            ("Chrome", "Android"),
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/1",
            ("Safari", "iOS"),
        ),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 15_0) Chrome/1 OPR/1", ("Opera", "Mac OS X")),
    ],
)
def test_user_agents(text: str, families: tuple[str, str]) -> None:
    assert families_of(text) == families
