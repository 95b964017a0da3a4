"""Frames on their way to event receivers: logins, lost sessions, failover, load, a full queue."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from support import databridge as receiver
from support.databridge import Sink
from trio_gw.config.control_plane import ThrottlingSettings
from trio_gw.control_plane.status import ControlPlaneStatus
from trio_gw.control_plane.throttling import publisher as publishing
from trio_gw.control_plane.throttling.publisher import Publisher
from trio_gw.control_plane.throttling.receiver import Receiver, receiver_groups
from trio_gw.telemetry.frame_queue import FrameQueue
from trio_gw.wire.throttle_event import FrameTemplate, ThrottleSubject

if TYPE_CHECKING:
    from collections.abc import Callable

SUBJECT = ThrottleSubject(*(f"v{number}" for number in range(16)))
TEMPLATE = FrameTemplate(SUBJECT, "10.0.0.7")
PASSWORD = "p\u00e4ss"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trust(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.fixture
def start(nursery: trio.Nursery, ca: trustme.CA) -> Callable[..., Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)

    async def begin(sink: Sink | None = None, ports: tuple[int, int] = (0, 0)) -> Sink:
        sink = sink or Sink("admin", PASSWORD)
        await nursery.start(sink.run, context, ports)
        return sink

    return begin


async def until(holds: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    with trio.fail_after(20):
        while not holds():
            await trio.lowlevel.checkpoint()


def settings(*groups: list[Sink], password: str = PASSWORD) -> ThrottlingSettings:
    return ThrottlingSettings(
        enabled=True,
        publish=tuple(tuple(sink.publish for sink in group) for group in groups),
        login=tuple(tuple(sink.login for sink in group) for group in groups),
        password=password,
    )


class Running:
    """A publisher in the nursery of a test, and the frames of one direction."""

    def __init__(
        self, nursery: trio.Nursery, table: ThrottlingSettings, trust: ssl.SSLContext, limit: int
    ) -> None:
        self.status = ControlPlaneStatus()
        self.queue = FrameQueue(limit)
        self.publisher = Publisher(table, self.queue, trust, self.status)
        self.frames = self.queue.direction(TEMPLATE)
        nursery.start_soon(self.publisher.run)

    def pass_frames(self, *sizes: int) -> None:
        for size in sizes:
            self.frames.passed(size, True)


@pytest.fixture
def run(nursery: trio.Nursery, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(publishing, "FIRST_PAUSE", 0.01)

    def begin(*groups: list[Sink], limit: int = 1000, password: str = PASSWORD) -> Running:
        return Running(nursery, settings(*groups, password=password), trust, limit)

    return begin


async def test_every_frame_is_an_event_with_its_size(start: Any, run: Any) -> None:
    sink = await start()
    running = run([sink])
    running.pass_frames(*range(450))
    events = await sink.wait_events(450)
    assert sink.logins == [("admin", PASSWORD)]
    assert sorted(sink.sizes()) == list(range(450))
    assert max(sink.batches) <= 200
    assert {event["messageID"] for event in events} == {"v0"}
    assert sink.connections == 1
    await until(lambda: running.publisher.published == 450)
    assert running.status.receivers[0].connected
    assert running.status.queues["throttling"].limit == 1000


async def test_a_lost_session_means_a_new_login_and_one_more_try(start: Any, run: Any) -> None:
    sink = await start()
    running = run([sink])
    running.pass_frames(1)
    await sink.wait_events(1)
    sink.drop_sessions = 1
    running.pass_frames(2)
    await sink.wait_events(2)
    assert sink.sizes() == [1, 2]
    assert len(sink.logins) == 2
    assert sink.connections == 1


async def test_a_wrong_password_is_one_line_that_names_the_setting(
    start: Any, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_gw.throttling")
    sink = await start()
    running = run([sink], password="not the password")
    await sink.wait(lambda sink: len(sink.logins) >= 4)
    lines = [
        record.getMessage() for record in caplog.records if record.name == "trio_gw.throttling"
    ]
    assert len(lines) == 1
    assert "control_plane.throttling.password" in lines[0]
    assert "not the password" not in caplog.text
    assert not running.status.receivers[0].connected


async def test_it_waits_for_a_receiver_and_the_full_queue_drops(start: Any, run: Any) -> None:
    away = Sink("admin", PASSWORD)
    listeners = [(await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] for _ in range(2)]
    away.port, away.login_port = (one.socket.getsockname()[1] for one in listeners)
    for listener in listeners:
        await listener.aclose()
    running = run([away], limit=10)
    running.pass_frames(*range(25))
    assert running.queue.dropped == 15
    await start(away, (away.port, away.login_port))
    await away.wait_events(10)
    assert away.sizes() == list(range(10))
    running.pass_frames(99)
    await away.wait_events(11)


async def test_a_connection_that_was_lost_while_idle_is_opened_again(start: Any, run: Any) -> None:
    sink = await start()
    running = run([sink])
    running.pass_frames(1)
    await sink.wait_events(1)
    await sink.disconnect()
    running.pass_frames(2)
    await sink.wait_events(2)
    assert sink.sizes() == [1, 2]
    assert sink.connections == 2


async def test_a_group_goes_on_with_its_next_receiver(start: Any, run: Any) -> None:
    first, second = await start(), await start()
    first.refuse = True
    running = run([first, second])
    running.pass_frames(1)
    await second.wait_events(1)
    assert [one.connected for one in running.status.receivers] == [False, True]
    first.refuse, second.reply = False, receiver.error("some.OtherException", "busy")
    running.pass_frames(2)
    await first.wait_events(1)
    assert first.sizes() == [2]


async def test_groups_share_the_events(start: Any, run: Any) -> None:
    first, second = await start(), await start()
    running = run([first], [second])
    await until(lambda: first.connections and second.connections)
    first.reading = trio.Event()  # stops reading; its batch waits
    count = 0
    while not second.events:
        running.pass_frames(*[count] * 300)
        count += 1
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(0.2):
            await second.wait_events(1)
    first.reading.set()
    await until(lambda: running.publisher.published == 300 * count)
    assert len(first.events) + len(second.events) == 300 * count


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\x7f\xff\xff\xff"])
async def test_a_receiver_that_speaks_another_protocol_is_left(
    start: Any, run: Any, garbage: bytes
) -> None:
    bad, good = await start(), await start()
    bad.reply = garbage
    running = run([bad, good])
    running.pass_frames(5)
    await good.wait_events(1)
    assert good.sizes() == [5]


async def test_events_that_nobody_accepts_are_dropped_and_counted(start: Any, run: Any) -> None:
    sink = await start()
    sink.reply = receiver.error("some.Exception", "no")
    running = run([sink])
    running.pass_frames(1, 2, 3)
    await sink.wait(lambda sink: len(sink.events) >= 3 * publishing.TRIES)
    sink.reply = None
    running.pass_frames(4)
    await sink.wait(lambda sink: sink.sizes()[-1:] == [4])
    assert running.publisher.failed == 3


async def test_a_receiver_that_stops_replying_is_left(
    start: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_gw.control_plane.throttling.receiver.REPLY", 0.5)
    sink = await start()
    running = run([sink])
    running.pass_frames(1)
    await sink.wait_events(1)
    sink.reading = trio.Event()
    running.pass_frames(2)
    await until(lambda: "no reply" in running.status.receivers[0].reason)
    sink.reading.set()
    await sink.wait(lambda sink: 2 in sink.sizes())


async def test_what_is_queued_is_sent_when_the_gateway_stops(start: Any, run: Any) -> None:
    sink = await start()
    running = run([sink])
    await sink.wait(lambda sink: sink.connections)
    running.pass_frames(*range(700))
    await running.publisher.flush()
    assert len(sink.events) == 700


async def test_the_certificate_of_a_login_is_checked(start: Any, nursery: trio.Nursery) -> None:
    sink = await start()
    running = Running(nursery, settings([sink]), ssl.create_default_context(), 10)
    await until(lambda: running.status.receivers[0].reason)
    assert "control_plane.ca" in running.status.receivers[0].reason
    assert not sink.logins


async def test_a_session_is_ended_with_the_task(
    start: Any, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = await start()
    async with trio.open_nursery() as inner:
        Running(inner, settings([sink]), trust, 10)
        await sink.wait(lambda sink: sink.connections)
        assert len(sink.sessions) == 1
        inner.cancel_scope.cancel()
    await sink.wait(lambda sink: not sink.sessions)


def test_the_groups_of_the_settings() -> None:
    table = ThrottlingSettings(
        publish=("tcp://a:1", ("tcp://b:2", "ssl://[::1]:3")),
        login=("ssl://a:11", ("ssl://b:12", "ssl://[::1]:13")),
    )
    shown = [[tuple(map(str, one)) for one in group] for group in receiver_groups(table)]
    assert shown == [[("a:1", "a:11")], [("b:2", "b:12"), ("[::1]:3", "[::1]:13")]]
    assert receiver_groups(table)[1][1].publish.tls


def test_a_receiver_hides_its_password() -> None:
    table = ThrottlingSettings(password=PASSWORD)
    context = ssl.create_default_context()
    one = Receiver(receiver_groups(table)[0][0], "admin", PASSWORD, context)
    assert PASSWORD not in repr(one)
