"""The states of projects and when each is due, without disk and clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trio_gw.config.api import ApiProject
from trio_gw.errors import Problem
from trio_gw.feed.project_state import LoadResult, ProjectReading, ProjectStates

if TYPE_CHECKING:
    from trio_gw.feed.walk import Signature

QUIET = 1.0
GRACE = 5.0


def seen(number: int) -> Signature:
    return (("api.yaml", number, 0, 0, 0),), ()


def project(name: str) -> ApiProject:
    return ApiProject(
        folder=f"apis/{name}", id=name, name=name, version="1", context=f"/{name}", topics=()
    )


def fault(name: str) -> Problem:
    return Problem(f"apis/{name}", 0, 0, "is broken", "fix it")


def good(name: str, number: int) -> ProjectReading:
    verdict = LoadResult(project(name), (), maybe_incomplete=False)
    return ProjectReading(seen(number), True, bytes([number]), verdict)


def bad(name: str, number: int, *, maybe_incomplete: bool = False) -> ProjectReading:
    verdict = LoadResult(None, (fault(name),), maybe_incomplete=maybe_incomplete)
    return ProjectReading(seen(number), True, bytes([number]), verdict)


def states_with(*names: str) -> ProjectStates:
    """Make a states in which these projects are good, and nothing is due."""
    states = ProjectStates(quiet=QUIET, grace=GRACE)
    for name in names:
        states.observe(name, seen(1), 0.0, wait=0.0)
        states.record(name, good(name, 1), 0.0)
    states.snapshot()
    return states


def test_each_project_has_its_own_quiet_period() -> None:
    states = states_with("a", "b")
    assert states.observe("a", seen(2), 10.0, wait=QUIET)
    assert states.observe("b", seen(2), 10.5, wait=QUIET)
    assert states.deadline() == 11.0
    assert states.due(10.9) == []
    assert states.due(11.0) == ["a"]
    assert states.due(11.5) == ["a", "b"]


def test_every_change_starts_the_quiet_period_anew() -> None:
    states = states_with("a")
    states.observe("a", seen(2), 10.0, wait=QUIET)
    assert not states.observe("a", seen(2), 10.5, wait=QUIET)
    assert states.deadline() == 11.0
    assert states.observe("a", seen(3), 10.9, wait=QUIET)
    assert states.deadline() == 11.9


def test_what_changed_while_it_was_read_is_read_again() -> None:
    states = states_with("a")
    states.observe("a", seen(2), 10.0, wait=QUIET)
    states.record("a", bad("a", 3), 11.0)
    assert states.deadline() == 12.0
    states.record("a", bad("a", 3)._replace(steady=False), 12.0)
    assert states.deadline() == 13.0
    states.record("a", None, 13.0)
    assert states.is_gone("a")
    assert states.deadline() == 14.0
    assert states.snapshot() == ({"a": project("a")}, ())


def test_a_broken_project_keeps_its_last_good_version() -> None:
    states = states_with("a")
    states.observe("a", seen(2), 10.0, wait=QUIET)
    states.record("a", bad("a", 2), 11.0)
    assert states.changed_at == 11.0
    assert states.snapshot() == ({"a": project("a")}, (fault("a"),))
    assert states.changed_at is None


def test_an_incomplete_project_is_told_of_after_its_grace() -> None:
    states = states_with("a")
    states.observe("a", seen(2), 10.0, wait=QUIET)
    states.record("a", bad("a", 2, maybe_incomplete=True), 11.0)
    assert states.changed_at is None
    assert states.deadline() == 15.0
    states.expire_grace(14.9)
    assert states.snapshot()[1] == ()
    states.expire_grace(15.0)
    assert states.snapshot()[1] == (fault("a"),)
    assert states.deadline() == math.inf


def test_a_further_change_starts_the_grace_anew() -> None:
    states = states_with()
    states.observe("a", seen(1), 10.0, wait=QUIET)
    states.record("a", bad("a", 1, maybe_incomplete=True), 11.0)
    states.observe("a", seen(2), 14.9, wait=QUIET)
    states.expire_grace(15.5)
    assert states.snapshot()[1] == ()
    states.record("a", ProjectReading(seen(2), True, b"\1", None), 15.9)
    assert states.deadline() == 19.9
    states.observe("a", seen(3), 16.0, wait=QUIET)
    states.record("a", good("a", 3), 17.0)
    states.expire_grace(100.0)
    assert states.snapshot() == ({"a": project("a")}, ())


def test_a_project_that_is_gone_waits_and_may_come_back() -> None:
    states = states_with("a", "b")
    states.observe("a", None, 10.0, wait=QUIET)
    states.observe("b", None, 10.0, wait=GRACE)
    assert states.due(11.0) == ["a"]
    assert not states.observe("a", None, 10.5, wait=GRACE)
    assert states.due(11.0) == [], "the longer wait counts"
    states.observe("b", seen(1), 11.0, wait=QUIET)
    states.record("b", ProjectReading(seen(1), True, b"\1", None), 12.0)
    states.drop("a", 15.5)
    assert states.snapshot() == ({"b": project("b")}, ())
    assert "a" not in states


def test_publishing_is_held_for_others_of_the_same_burst() -> None:
    states = states_with("a", "b")
    states.observe("a", seen(2), 10.0, wait=QUIET)
    states.observe("b", seen(2), 10.8, wait=QUIET)
    assert not states.should_wait(), "nothing is ready"
    states.record("a", good("a", 2)._replace(digest=b"new"), 11.0)
    assert states.should_wait()
    states.observe("b", seen(3), 11.5, wait=QUIET)
    assert not states.should_wait(), "not for longer than one quiet period"


def test_a_project_that_never_rests_holds_nobody() -> None:
    states = states_with("a", "busy")
    for number in range(2, 100):
        states.observe("busy", seen(number), number / 10, wait=QUIET)
    states.observe("a", seen(2), 9.0, wait=QUIET)
    states.record("a", bad("a", 2), 10.0)
    assert states.due(10.0) == []
    assert not states.should_wait()


def test_a_project_that_was_never_there_is_no_change() -> None:
    states = states_with()
    assert not states.observe("a", None, 1.0, wait=QUIET)
    assert states.snapshot() == ({}, ())
    assert list(states) == []
