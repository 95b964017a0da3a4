"""The catalog: many origins, one applied state, never a half-built one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import trio.testing

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.config.settings import Environment
from trio_gw.errors import Problem
from trio_gw.feed.catalog import Catalog
from trio_gw.feed.compile import compile_snapshots
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.live import Live

if TYPE_CHECKING:
    from collections.abc import Sequence

ENVIRONMENTS = (Environment(),)


def project(name: str, **fields: Any) -> ApiProject:
    made = ApiProject(
        folder=f"apis/{name}",
        id=f"id-{name}",
        name=name,
        version="1.0.0",
        context=f"/{name}",
        topics=(Topic("/topic"),),
        production=Cluster((Endpoint("ws", "localhost", 1),)),
    )
    return msgspec.structs.replace(made, **fields)


def snapshot(*names: str) -> dict[str, ApiProject]:
    return {name: project(name) for name in names}


class Applied:
    """A catalog, and the generations of its table."""

    def __init__(self, origins: Sequence[str] = ("apis",)) -> None:
        self.live = Live(EMPTY)
        self.catalog = Catalog(self.live, ENVIRONMENTS, origins)

    async def settle(self) -> None:
        """Let everything run that was put off until the next turn of the loop."""
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(20):
            await self.catalog.applied()

    @property
    def names(self) -> set[str]:
        return {route.api.name for *_, route in self.live.table.rows()}

    def tier(self, name: str) -> str:
        match = self.live.table.match("localhost", f"/{name}/1.0.0/topic")
        assert match is not None
        return match.route.api.tier


@pytest.fixture
async def applied(nursery: trio.Nursery) -> Applied:
    return await started(nursery)


async def started(nursery: trio.Nursery, origins: Sequence[str] = ("apis",)) -> Applied:
    made = Applied(origins)
    await nursery.start(made.catalog.run)
    return made


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    found = [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and record.name == "trio_gw.feed"
    ]
    caplog.clear()
    return found


FAULT = Problem("apis/B/api.yaml", 7, 1, "`name` is missing", "add `name: …`")
HINT = Problem("apis/B/api.yaml", 9, 1, "a comment in a value", "", "warning")


async def test_the_first_table_is_live_when_it_is_ready(applied: Applied) -> None:
    assert not applied.catalog.ready.is_set()
    applied.catalog.publish("apis", snapshot("A", "B"))
    with trio.fail_after(20):
        await applied.catalog.ready.wait()
    assert applied.catalog.ready.is_set()
    assert applied.names == {"A", "B"}
    assert applied.live.generation == 1


async def test_waits_for_every_expected_origin(nursery: trio.Nursery) -> None:
    applied = await started(nursery, ("apis", "deployed", "controlplane"))
    applied.catalog.publish("controlplane", snapshot("C"))
    applied.catalog.publish("apis", snapshot("A"), [FAULT])
    applied.catalog.publish("apis", snapshot("A", "B"), [FAULT])
    await applied.settle()
    assert applied.live.table is EMPTY
    assert applied.live.generation == 0
    assert not applied.catalog.ready.is_set()
    assert applied.catalog.problems == (FAULT,), "what is known to be wrong is told at once"
    applied.catalog.publish("deployed", {})
    await applied.settle()
    assert applied.catalog.ready.is_set()
    assert applied.names == {"A", "B", "C"}
    assert applied.live.generation == 1


async def test_an_empty_first_snapshot_is_one(applied: Applied) -> None:
    applied.catalog.publish("apis", {}, [FAULT])
    await applied.settle()
    assert applied.catalog.ready.is_set()
    assert applied.names == set()


async def test_refuses_an_origin_that_is_not_expected(applied: Applied) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        applied.catalog.publish("nowhere", {})


async def test_later_snapshots_are_applied_and_wake_who_waits(applied: Applied) -> None:
    applied.catalog.publish("apis", snapshot("A"))
    await applied.settle()
    woken = trio.Event()

    async def wait() -> None:
        await applied.live.wait_changed()
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await applied.settle()
        applied.catalog.publish("apis", snapshot("A", "B"))
        with trio.fail_after(5):
            await woken.wait()
    assert applied.names == {"A", "B"}


async def test_a_snapshot_replaces_the_one_before_it_and_no_other(
    nursery: trio.Nursery,
) -> None:
    applied = await started(nursery, ("apis", "deployed"))
    applied.catalog.publish("apis", snapshot("A", "B"))
    applied.catalog.publish("deployed", snapshot("C"))
    applied.catalog.publish("apis", snapshot("B"))
    await applied.settle()
    assert applied.names == {"B", "C"}


async def test_skips_unchanged(applied: Applied) -> None:
    applied.catalog.publish("apis", snapshot("A"))
    await applied.settle()
    table = applied.live.table
    for _ in range(3):
        applied.catalog.publish("apis", snapshot("A"))
        await applied.settle()
    assert applied.live.table is table
    assert applied.live.generation == 1


async def test_problems_alone_swap_nothing(applied: Applied) -> None:
    applied.catalog.publish("apis", snapshot("A"))
    await applied.settle()
    applied.catalog.publish("apis", snapshot("A"), [FAULT])
    await applied.settle()
    assert applied.catalog.problems == (FAULT,)
    assert applied.live.generation == 1


async def test_does_not_skip_flapping(applied: Applied) -> None:
    applied.catalog.publish("apis", snapshot("A"))
    await applied.settle()
    for generation in range(2, 12):
        names = ("A", "B") if generation % 2 == 0 else ("A",)
        applied.catalog.publish("apis", snapshot(*names))
        await applied.settle()
        assert applied.names == set(names)
        assert applied.live.generation == generation


async def test_ignores_intermediate_states(applied: Applied) -> None:
    applied.catalog.publish("apis", snapshot("A"))
    await applied.settle()
    applied.catalog.publish("apis", {})
    applied.catalog.publish("apis", snapshot("A", "B"))
    applied.catalog.publish("apis", snapshot("C"))
    await applied.settle()
    assert applied.names == {"C"}
    assert applied.live.generation == 2
    applied.catalog.publish("apis", {})
    applied.catalog.publish("apis", snapshot("C"))
    await applied.settle()
    assert applied.live.generation == 2, "back where it was"


async def test_survives_a_storm(nursery: trio.Nursery) -> None:
    origins = ("apis", "deployed", "controlplane")
    applied = await started(nursery, origins)
    seen: list[set[str]] = []

    async def look() -> None:
        while True:
            await applied.live.wait_changed()
            seen.append(applied.names)

    async def storm(origin: str) -> None:
        for number in range(500):
            changing = project(origin, tier=str(number))
            applied.catalog.publish(origin, {"steady": project(f"{origin}-steady"), "x": changing})
            if number % 3 == 0:
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await applied.settle()
        with trio.fail_after(20):
            async with trio.open_nursery() as storms:
                for origin in origins:
                    storms.start_soon(storm, origin)
        await applied.settle()
        nursery.cancel_scope.cancel()
    assert [applied.tier(origin) for origin in origins] == ["499"] * 3
    whole = {name for origin in origins for name in (origin, f"{origin}-steady")}
    assert seen
    assert all(names == whole for names in seen)


async def test_a_snapshot_is_copied(applied: Applied) -> None:
    first = snapshot("A")
    applied.catalog.publish("apis", first)
    await applied.settle()
    first.clear()
    await applied.settle()
    assert applied.names == {"A"}
    applied.catalog.publish("apis", snapshot("A"))
    await applied.settle()
    second = snapshot("A", "B")
    applied.catalog.publish("apis", second)
    await applied.settle()
    second.clear()
    await applied.settle()
    assert applied.names == {"A", "B"}


@pytest.mark.parametrize("swapped", [False, True])
async def test_of_two_with_one_id_the_earlier_origin_wins(
    nursery: trio.Nursery, *, swapped: bool
) -> None:
    applied = await started(nursery, ("apis", "deployed"))
    calls = [
        ("apis", {"Z": project("Z", id="same")}),
        ("deployed", {"A": project("A", id="same", folder="deployed/A")}),
    ]
    for origin, projects in reversed(calls) if swapped else calls:
        applied.catalog.publish(origin, projects)
    await applied.settle()
    assert applied.names == {"Z"}
    (problem,) = applied.catalog.problems
    assert problem.file == "deployed/A"
    assert problem.severity == "error"
    assert "id same" in problem.what
    assert "apis/Z" in problem.what
    assert problem.hint


async def test_of_two_with_one_title_the_first_folder_wins(applied: Applied) -> None:
    copy = project("A", folder="apis/Copy", id="other", context="/copy", tier="AsyncGold")
    applied.catalog.publish("apis", {"Copy": copy, "A": project("A")})
    await applied.settle()
    assert applied.tier("A") == "Unlimited"
    (problem,) = applied.catalog.problems
    assert problem.file == "apis/Copy"
    assert "A:1.0.0" in problem.what
    assert "apis/A" in problem.what
    applied.catalog.publish("apis", {"Copy": copy})
    await applied.settle()
    assert applied.catalog.problems == ()
    assert applied.names == {"A"}
    match = applied.live.table.match("localhost", "/copy/1.0.0/topic")
    assert match is not None


async def test_one_title_in_two_organizations_is_no_conflict(applied: Applied) -> None:
    other = project("A", folder="apis/B", id="b", organization="other", context="/b")
    applied.catalog.publish("apis", {"A": project("A"), "B": other})
    await applied.settle()
    assert applied.catalog.problems == ()
    assert len(list(applied.live.table.rows())) == 2


async def test_of_two_with_one_base_path_the_first_wins(applied: Applied) -> None:
    applied.catalog.publish("apis", {"A": project("A"), "B": project("B", context="/A")})
    await applied.settle()
    assert applied.names == {"A"}
    (problem,) = applied.catalog.problems
    assert problem.file == "apis/B"


async def test_a_problem_is_logged_when_it_comes_and_when_it_goes(
    applied: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    applied.catalog.publish("apis", snapshot("A"), [FAULT, HINT])
    await applied.settle()
    assert lines(caplog, logging.ERROR) == [str(FAULT)]
    applied.catalog.publish("apis", snapshot("A"), [HINT, FAULT])
    await applied.settle()
    applied.catalog.publish("apis", snapshot("A", "C"), [FAULT, HINT, FAULT])
    await applied.settle()
    assert lines(caplog, logging.ERROR) == []
    assert applied.catalog.problems == (FAULT, HINT)
    applied.catalog.publish("apis", snapshot("A", "C"), [HINT])
    await applied.settle()
    assert lines(caplog, logging.INFO) == [f"solved: {FAULT}"]
    applied.catalog.publish("apis", snapshot("A", "C"), [])
    await applied.settle()
    applied.catalog.publish("apis", snapshot("A", "C"), [HINT, FAULT])
    await applied.settle()
    assert lines(caplog, logging.WARNING) == [str(HINT)]


async def test_every_swap_says_what_changed(
    applied: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    applied.catalog.publish("apis", snapshot("A", "B"))
    await applied.settle()
    assert lines(caplog, logging.INFO) == ["table 1: 2 APIs; added A:1.0.0, B:1.0.0"]
    applied.catalog.publish("apis", {"B": project("B", tier="AsyncGold"), "C": project("C")})
    await applied.settle()
    words = "table 2: 2 APIs; added C:1.0.0; changed B:1.0.0; removed A:1.0.0"
    assert lines(caplog, logging.INFO) == [words]
    applied.catalog.publish("apis", snapshot("C"))
    await applied.settle()
    assert lines(caplog, logging.INFO) == ["table 3: 1 API; removed B:1.0.0"]
    applied.catalog.publish("apis", snapshot(*(f"N{number:03}" for number in range(100))))
    await applied.settle()
    (line,) = lines(caplog, logging.INFO)
    assert "N019:1.0.0 and 80 more; removed C:1.0.0" in line


def test_snapshots_compile_without_an_event_loop() -> None:
    compiled = compile_snapshots([snapshot("A"), {"A": project("A", id="x")}], ENVIRONMENTS)
    assert [api.name for api in compiled.served.values()] == ["A"]
    assert len(compiled.problems) == 1
    assert compiled.table.match("anything", "/A/1.0.0/topic") is not None
    strict = compile_snapshots([snapshot("A")], ENVIRONMENTS, strict_vhosts=True)
    assert strict.table.match("anything", "/A/1.0.0/topic") is None


def wide(name: str, channels: int) -> ApiProject:
    return project(name, topics=tuple(Topic(f"/{{a}}-k{number}") for number in range(channels)))


async def test_the_loop_runs_while_a_large_project_is_compiled(applied: Applied) -> None:
    applied.catalog.publish("apis", snapshot("A"))
    await applied.settle()
    applied.catalog.publish("apis", {**snapshot("A"), "B": wide("B", 12_000)})
    turns = 0
    with trio.fail_after(60):
        while applied.live.generation == 1:
            await trio.lowlevel.checkpoint()
            turns += 1
    assert turns > 20, "one turn for each millisecond of work, at least"
    assert applied.names == {"A", "B"}


async def test_what_comes_while_it_compiles_is_applied_next(applied: Applied) -> None:
    applied.catalog.publish("apis", {"B": wide("B", 3000)})
    await trio.testing.wait_all_tasks_blocked()
    applied.catalog.publish("apis", snapshot("C"))
    await applied.settle()
    assert applied.names == {"C"}


async def test_cancelled_while_it_compiles() -> None:
    applied = Applied()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(applied.catalog.run)
            applied.catalog.publish("apis", {"B": wide("B", 50_000)})
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert applied.live.table is EMPTY
    assert not applied.catalog.ready.is_set()


async def test_a_project_that_is_too_large_is_named_and_others_are_served(
    applied: Applied,
) -> None:
    deep = project("B", topics=(Topic("/x" * 4000), *(Topic(f"/{n}" * 4000) for n in range(30))))
    applied.catalog.publish("apis", {"A": project("A"), "B": deep})
    await applied.settle()
    assert applied.names == {"A"}
    (problem,) = applied.catalog.problems
    assert problem.file == "apis/B"
    assert "124,000" in problem.what


async def test_unchanged_projects_keep_their_compiled_routes(applied: Applied) -> None:
    applied.catalog.publish("apis", snapshot("A", "B"))
    await applied.settle()
    before = {route.api.name: route for *_, route in applied.live.table.rows()}
    applied.catalog.publish("apis", {**snapshot("A"), "B": project("B", tier="AsyncGold")})
    await applied.settle()
    after = {route.api.name: route for *_, route in applied.live.table.rows()}
    assert after["A"] is before["A"]
    assert after["B"] is not before["B"]
