"""The tracker, round by round: the disk is real, the time is not, hints are given by hand."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import trio.testing

from support.projects import api, asyncapi, write
from trio_gw.feed.tracker import POLL, Tracker

if TYPE_CHECKING:
    from pathlib import Path

QUIET = 1.0
GRACE = 5.0
RESCAN = 100.0


class Rounds:
    """A tracker that is driven by hand."""

    def __init__(self, root: Path, clock: trio.testing.MockClock) -> None:
        self.root = root
        self.tracker = Tracker(root, quiet=QUIET, grace=GRACE, rescan=RESCAN, label="apis")
        self._clock = clock

    async def start(self) -> None:
        await self.tracker.round(wait=0.0, blind=False)

    async def after(self, seconds: float, *hints: Path, blind: bool = False) -> dict[str, str]:
        """Let time pass, give hints, do a round; return the tiers of what is good then."""
        self._clock.jump(seconds)
        self.tracker.hint([str(path) for path in hints])
        await self.tracker.round(wait=QUIET, blind=blind)
        return self.tiers

    @property
    def tiers(self) -> dict[str, str]:
        projects, _ = self.tracker.snapshot()
        return {name: project.tier for name, project in projects.items()}

    @property
    def problems(self) -> list[str]:
        _, problems = self.tracker.snapshot()
        return [problem.what for problem in problems]


def make(root: Path, name: str, tier: str = "Bronze") -> Path:
    meta = api(name, f"/{name}", "ws://localhost:1", apiThrottlingPolicy=tier)
    return write(root, name, meta, asyncapi({"/topic": {"subscribe": {}}}))


def move(source: Path, target: Path) -> None:
    source.rename(target)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "apis"
    folder.mkdir()
    return folder


async def test_a_hint_leads_to_a_reading_after_the_quiet_period(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    make(root, "B")
    await rounds.start()
    make(root, "A", "Gold")
    make(root, "B", "Gold")
    file = root / "A" / "Definitions" / "asyncapi.yaml"
    assert await rounds.after(1, file) == {"A": "Bronze", "B": "Bronze"}
    assert rounds.tracker.deadline() == trio.current_time() + POLL
    assert await rounds.after(QUIET) == {"A": "Gold", "B": "Bronze"}


@pytest.mark.parametrize("name", ["", "..data", "../elsewhere"])
async def test_what_may_concern_all_makes_it_look_everywhere(
    root: Path, mock_clock: trio.testing.MockClock, name: str
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    await rounds.start()
    make(root, "A", "Gold")
    hint = root.parent / "elsewhere" if name.startswith("../") else root / name
    await rounds.after(1, hint)
    assert await rounds.after(QUIET) == {"A": "Gold"}


async def test_a_project_that_came_back_unheard_is_not_dropped(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    await rounds.start()
    move(root / "A", root.parent / "A")
    await rounds.after(1, root / "A")
    move(root.parent / "A", root / "A")
    assert await rounds.after(QUIET) == {"A": "Bronze"}
    assert await rounds.after(QUIET) == {"A": "Bronze"}


async def test_a_root_that_is_away_for_a_moment_is_no_problem(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    await rounds.start()
    move(root, root.parent / "old")
    await rounds.after(POLL)
    assert rounds.problems == []
    move(root.parent / "old", root)
    await rounds.after(POLL)
    assert rounds.problems == []
    assert rounds.tiers == {"A": "Bronze"}
    move(root, root.parent / "old")
    await rounds.after(POLL)
    await rounds.after(QUIET)
    assert len(rounds.problems) == 1
    assert rounds.tiers == {"A": "Bronze"}
    assert rounds.tracker.deadline() == trio.current_time() + POLL


async def test_a_root_that_goes_while_a_project_is_gone_keeps_the_project(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    await rounds.start()
    shutil.rmtree(root / "A")
    await rounds.after(1, root / "A")
    os.rmdir(root)
    assert await rounds.after(QUIET) == {"A": "Bronze"}
    assert await rounds.after(10 * GRACE) == {"A": "Bronze"}
    os.mkdir(root)
    assert await rounds.after(POLL) == {"A": "Bronze"}
    assert await rounds.after(GRACE - 0.125) == {"A": "Bronze"}
    assert await rounds.after(0.125) == {}


async def test_watches_are_made_anew_for_a_root_that_went_away(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    await rounds.start()
    epoch = rounds.tracker.epoch
    await rounds.after(POLL)
    assert rounds.tracker.epoch == epoch
    # By its numbers it is the same directory, as a new one may be that got the old inode.
    rounds.tracker.hint([str(root)], gone=[str(root)])
    await rounds.after(POLL)
    assert rounds.tracker.epoch == epoch + 1


async def test_a_change_that_no_hint_told_of_is_found_and_distrusts_the_watches(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    await rounds.start()
    epoch = rounds.tracker.epoch
    make(root, "A", "Gold")
    await rounds.after(RESCAN / 2)
    assert await rounds.after(QUIET) == {"A": "Bronze"}
    assert rounds.tracker.epoch == epoch
    await rounds.after(RESCAN / 2)
    assert rounds.tracker.epoch == epoch + 1
    assert await rounds.after(QUIET) == {"A": "Gold"}
    await rounds.after(RESCAN)
    assert rounds.tracker.epoch == epoch + 1


async def test_without_watches_it_looks_every_second(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    await rounds.start()
    await rounds.after(0.1, blind=True)
    for tier in ("Silver", "Gold"):
        make(root, "A", tier)
        await rounds.after(1.0, blind=True)
        assert await rounds.after(QUIET, blind=True) == {"A": tier}


async def test_places_are_those_of_the_projects_and_of_the_root(
    root: Path, mock_clock: trio.testing.MockClock
) -> None:
    rounds = Rounds(root, mock_clock)
    make(root, "A")
    await rounds.start()
    paths = {place.path for place in rounds.tracker.directories}
    assert paths == {str(root / name) for name in ("", "A", "A/Definitions")}
    shutil.rmtree(root / "A")
    await rounds.after(1, root / "A")
    assert {place.path for place in rounds.tracker.directories} == {str(root)}
