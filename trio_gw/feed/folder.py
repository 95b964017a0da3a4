"""The folder source: watch a root folder of API projects, reload what changed, publish.

Started by the worker with `await nursery.start(follow, root, publish)`. What it publishes is
always the whole: every project that is good now, those that broke since in their last good
version, and all current problems. What changed is found out by `feed.tracker`; here are the
watches that hint at it, and the loop.

Watched, by `watch.directories`, are the very directories that the scan walked. If the system
grants no watch, everything is rescanned every second instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from trio_gw.feed import store
from trio_gw.feed.tracker import Tracker, examine, lost_problem
from trio_gw.watch.directories import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.errors import Problem
    from trio_gw.feed.ledger import Snapshot


FOLDER = "apis"  # the origin


class Publish(Protocol):
    """Receives complete snapshots; called in the Trio thread, must not block."""

    def __call__(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...], /
    ) -> None: ...


class Statistics(NamedTuple):
    """What the source did so far. `watching`: the system tells it about changes."""

    scans: int
    reads: int
    loads: int
    publishes: int
    watching: bool


async def follow(
    root: Path,
    publish: Publish,
    *,
    quiet: float = 0.25,
    grace: float = 2.0,
    rescan: float = 10.0,
    label: str = "apis",
    identify: Callable[[Mapping[str, bytes]], None] | None = None,
    task_status: trio.TaskStatus[Folder] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish the projects of `root`, and publish again whenever they change. Never returns.

    `label` is the origin, and stands for the root in problems. A project is read when it has
    not changed for `quiet` seconds; an incomplete one is reported `grace` seconds after its last
    change. Every `rescan` seconds everything is looked at, for events that got lost, and a watch
    that the system refused is tried again. `identify` is told the digests of the projects'
    files, before the snapshot that goes with them. Started, with the `Folder`, once the first
    snapshot has been published.
    """
    folder = followed(
        root, publish, quiet=quiet, grace=grace, rescan=rescan, label=label, identify=identify
    )
    await folder.run(task_status=task_status)


def followed(
    root: Path,
    publish: Publish,
    *,
    quiet: float = 0.25,
    grace: float = 2.0,
    rescan: float = 10.0,
    label: str = "apis",
    identify: Callable[[Mapping[str, bytes]], None] | None = None,
) -> Folder:
    """Make what `follow` runs; it may be run again after a failure."""
    tracker = Tracker(root, quiet=quiet, grace=grace, rescan=rescan, label=label)
    return Folder(tracker, publish, label=label, quiet=quiet, rescan=rescan, identify=identify)


def load_once(
    root: Path,
    *,
    label: str = "apis",
    only: Container[str] | None = None,
    identify: Callable[[Mapping[str, bytes]], None] = lambda digests: None,
) -> Snapshot:
    """Load the projects of `root` as they are now, with the code that `follow` uses. Blocks.

    For the command line; `only` names the projects to load, None means all. A root that cannot
    be listed is a problem. `identify` as for `follow`.
    """
    projects: dict[str, ApiProject] = {}
    digests: dict[str, bytes] = {}
    try:
        listing = store.scan(root, label=label, only=only)
        problems: list[Problem] = []
        for name in listing.projects:
            reading = examine(root, name, label, b"")
            if reading is not None and reading.verdict is not None:
                digests[name] = reading.digest
                problems += reading.verdict.problems
                if reading.verdict.project is not None:
                    projects[name] = reading.verdict.project
    except OSError as error:
        return projects, (lost_problem(label, error),)
    identify(digests)
    return projects, tuple(problems)


class Folder:
    """One followed root; made by `follow`."""

    def __init__(
        self,
        tracker: Tracker,
        publish: Publish,
        *,
        label: str,
        quiet: float,
        rescan: float,
        identify: Callable[[Mapping[str, bytes]], None] | None = None,
    ) -> None:
        self._tracker = tracker
        self._publish = publish
        self._label = label
        self._quiet = quiet
        self._rescan = rescan
        self._identify = identify
        self._digests: Mapping[str, bytes] = {}
        self._wake = trio.Event()
        self._published: Snapshot | None = None
        self._publishes = 0
        self._watches: Watches | None = None

    def statistics(self) -> Statistics:
        """Return the counters since the start."""
        watching = self._watches is not None and self._watches.live
        return Statistics(*self._tracker.counts(), self._publishes, watching)

    async def run(self, *, task_status: trio.TaskStatus[Folder] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the work of `follow`. Run again after a failure, it goes on with what it knows."""
        tracker = self._tracker
        first = True
        # What is there at the start is taken as it is.
        wait = 0.0 if self._published is None else self._quiet
        tracker.distrust()
        async with trio.open_nursery() as nursery:
            watches = self._watches = Watches(
                nursery, self._heard, label=self._label, retry=self._rescan
            )
            while True:
                await tracker.round(wait=wait, blind=watches.problem is not None)
                watches.cover(tracker.places, tracker.epoch)
                if self._published is None or not tracker.is_held():
                    self._speak(watches.problem)
                if first:
                    first, wait = False, self._quiet
                    task_status.started(self)
                with trio.move_on_at(tracker.deadline()):
                    await self._wake.wait()
                self._wake = trio.Event()

    def _speak(self, problem: Problem | None) -> None:
        """Publish if there is something new to say."""
        if self._identify is not None and (digests := self._tracker.digests()) != self._digests:
            self._digests = digests
            self._identify(digests)
        projects, problems = self._tracker.snapshot()
        snapshot = projects, problems if problem is None else (problem, *problems)
        if snapshot == self._published:
            return
        self._published = snapshot
        self._publishes += 1
        self._publish(self._label, dict(projects), snapshot[1])

    def _heard(self, paths: Collection[str], gone: Collection[str]) -> None:
        self._tracker.hint(paths, gone)
        self._wake.set()
