"""Counts of connections: adding many at a time loses nothing."""

from __future__ import annotations

import pytest

from trio_gw.config.api import ApiProject, Topic
from trio_gw.config.settings import Timeouts
from trio_gw.errors import CloseCode, Ending, Phase, Side
from trio_gw.proxy.sessions import Session, Sessions
from trio_gw.proxy.stats_observer import BATCH, StatsObserver
from trio_gw.relay.lane import Lane
from trio_gw.routing.route import Route
from trio_gw.telemetry import families
from trio_gw.telemetry.metrics import Metrics

TOPIC = ("Chat", "1.0.0", "/rooms")
ROUTE = Route(ApiProject("chat", "1", *TOPIC[:2], "/chat", ()), Topic(TOPIC[2]))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def relayed(sessions: Sessions, observer: StatsObserver) -> Session:
    """Take a connection up to its relay."""
    with sessions.open("192.0.2.1") as session:
        session.request, session.status = "GET /chat/1.0.0/rooms", 101
        session.route = ROUTE
        session.enter(Phase.ROUTE)
        session.enter(Phase.DIAL)
        session.relay(Lane(masked=True), Lane(masked=False))
        observer.opened(session)
        session.phase_ends = []
        return session


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
async def test_every_connection_counts(metrics: Metrics, count: int) -> None:
    sessions = Sessions(Timeouts())
    observer = StatsObserver(metrics, sessions)
    opened = [relayed(sessions, observer) for _ in range(count)]
    shown = metrics.snapshot()
    assert shown[families.OPENED.name] == {TOPIC: [count]}
    assert shown[families.OPEN.name] == {TOPIC: [count]}
    assert shown[families.HANDSHAKES.name] == {(*TOPIC[:2], "101", ""): [count]}
    phases = {labels[0]: numbers[-2] for labels, numbers in shown[families.PHASES.name].items()}
    assert phases == dict.fromkeys(("head", "route", "dial"), count)

    for number, session in enumerate(opened):
        code = CloseCode.NORMAL if number else CloseCode.ABNORMAL
        session.ending = Ending(Side.CLIENT, code)
        assert session.publish is not None
        session.publish.feed(b"\x81\x80\0\0\0\0")
        observer.ended(session)
    shown = metrics.snapshot()
    assert shown[families.OPENED.name] == {TOPIC: [count]}
    assert shown[families.OPEN.name] == {TOPIC: [0]}
    closed = {labels[3]: numbers[0] for labels, numbers in shown[families.CLOSED.name].items()}
    assert closed == {"1006": 1} | ({"1000": count - 1} if count > 1 else {})
    assert shown[families.MESSAGES.name][*TOPIC, "in"] == [count]
    assert shown[families.LIFETIME.name][()][-2] == count


async def test_a_refusal_counts_with_its_last_phase(metrics: Metrics) -> None:
    sessions = Sessions(Timeouts())
    observer = StatsObserver(metrics, sessions)
    with sessions.open("192.0.2.1") as session:
        session.request, session.status, session.code = "GET /nowhere", 404, "404"
        session.enter(Phase.ROUTE)
        observer.ended(session)
    shown = metrics.snapshot()
    assert shown[families.HANDSHAKES.name] == {("", "", "404", "404"): [1]}
    assert {labels[0] for labels in shown[families.PHASES.name]} == {"head", "route"}
    assert not shown[families.OPENED.name]
