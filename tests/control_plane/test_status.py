"""The status of the control plane."""

from __future__ import annotations

import msgspec
import pytest

from trio_gw.control_plane.status import LENGTH, BrokerStatus, ControlPlaneStatus
from trio_gw.errors import Problem


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set."""
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    return clock


def test_without_a_pull_staleness_counts_from_the_start(now: list[float]) -> None:
    found = ControlPlaneStatus(started_at=1000.0)
    now[0] = 1007.0
    found.pull_failed("no route to host")
    assert found.stale_seconds() == 7.0
    assert (found.pulls, found.pull_failures, found.pull_error) == (0, 1, "no route to host")


def test_a_cached_state_is_as_old_as_its_pull(now: list[float]) -> None:
    found = ControlPlaneStatus()
    found.cached(400.0)
    assert found.from_cache
    assert found.stale_seconds() == 600.0


def test_after_a_pull_it_is_current_until_events_may_be_missed(now: list[float]) -> None:
    found = ControlPlaneStatus()
    found.cached(400.0)
    found.pull_started()
    assert found.pulling
    problem = Problem("Chat", 0, 0, "no backend", "")
    found.pull_ended(0.5, (problem,))
    found.mark_current()
    now[0] = 1100.0
    assert found.stale_seconds() == 0
    assert (found.from_cache, found.pulling, found.pulls) == (False, False, 1)
    found.mark_outdated()
    now[0] = 1130.0
    found.mark_outdated()  # the first one counts
    assert found.stale_seconds() == 30.0
    found.mark_current()
    assert found.stale_seconds() == 0


def test_a_broker_counts_connections_and_losses(now: list[float]) -> None:
    found = ControlPlaneStatus()
    broker = BrokerStatus("localhost:5672")
    found.lost(broker, "refused")
    now[0] = 1005.0
    found.lost(broker, "refused again")  # down since the first
    assert (broker.connects, broker.losses, broker.since) == (0, 0, 1000.0)
    found.connected(broker)
    assert (broker.connected, broker.since, broker.reason) == (True, 1005.0, "")
    now[0] = 1010.0
    found.lost(broker, "x" * 10_000)
    assert (broker.connects, broker.losses, broker.since) == (1, 1, 1010.0)
    assert broker.reason == "x" * LENGTH


def test_events_are_counted_by_kind_and_result(now: list[float]) -> None:
    found = ControlPlaneStatus()
    found.event("deploy", "applied", "Chat")
    found.event("deploy", "applied", "y" * 10_000)
    found.event("other", "malformed")
    assert found.events == {"deploy": {"applied": 2}, "other": {"malformed": 1}}
    assert (found.last_event, found.last_event_at) == ("other malformed", 1000.0)
    found.event("deploy", "stale", "z" * 10_000)
    assert len(found.last_event) == LENGTH


def test_it_passes_between_processes() -> None:
    found = ControlPlaneStatus(brokers=[BrokerStatus("localhost:5672")])
    found.pull_ended(0.5, (Problem("Chat", 0, 0, "no backend", ""),))
    found.event("block", "applied")
    packed = msgspec.msgpack.encode(found)
    assert msgspec.msgpack.decode(packed, type=ControlPlaneStatus) == found


def test_problems_name_the_connections() -> None:
    found = ControlPlaneStatus(brokers=[BrokerStatus("a:1"), BrokerStatus("b:2")])
    assert found.all_problems() == ()
    found.lost(found.brokers[0], "refused")
    found.pull_failed("401: set control_plane.password")
    found.cache_problems = (Problem("controlplane", 0, 0, "the disk is full", ""),)
    found.problems = (Problem("Chat", 0, 0, "no backend", ""),)
    listed = found.all_problems()
    assert [problem.file for problem in listed] == [
        *("control_plane.url", "control_plane.events", "controlplane", "Chat"),
    ]
    assert listed[1].what == "no broker of the control plane is connected: a:1: refused"
    found.receivers = [BrokerStatus("tm:9611")]
    found.lost(found.receivers[0], "refused")
    listed = found.all_problems()
    assert listed[2].what == "the event receiver tm:9611 is not connected: refused"
    found.connected(found.receivers[0])
    found.connected(found.brokers[1])
    found.pull_ended(0.1, found.problems)
    assert [problem.file for problem in found.all_problems()] == ["controlplane", "Chat"]
