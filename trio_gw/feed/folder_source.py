"""The folder source: watch a folder of API projects, reload what changed, publish.

The worker starts it with `await nursery.start(follow, root, publish)`. It always publishes
complete snapshots: every good project, the last good version of broken ones, and all current
problems. `feed.tracker` finds the changes; this module has the main loop and the watches, which
give hints.

`watch.directories` watches exactly the directories that a scan has visited. If the system allows
no watch, everything is scanned every second instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from trio_gw.feed.tracker import Tracker
from trio_gw.watch.directories import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.errors import Problem
    from trio_gw.feed.project_state import Snapshot


class PublishSnapshot(Protocol):
    """Receives complete snapshots; called in the Trio thread, must not block."""

    def __call__(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...], /
    ) -> None: ...


class Statistics(NamedTuple):
    """Counters since the start. `watching`: the system reports changes."""

    scans: int
    reads: int
    loads: int
    publishes: int
    watching: bool


async def follow(
    root: Path,
    publish: PublishSnapshot,
    *,
    quiet: float = 0.25,
    grace: float = 2.0,
    rescan: float = 10.0,
    label: str = "apis",
    identify: Callable[[Mapping[str, bytes]], None] | None = None,
    task_status: trio.TaskStatus[FolderSource] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish the projects of `root`, and again whenever they change. Never returns.

    `label` is the origin, and the name of the root in problems. A project is read when it has not
    changed for `quiet` seconds. An incomplete project is reported `grace` seconds after its last
    change. Every `rescan` seconds everything is scanned, in case events were lost, and a watch
    that the system refused is tried again. `identify` is called with the digests of the project
    files, before the snapshot that they belong to. Started, with the `FolderSource`, when the
    first snapshot has been published.
    """
    source = folder_source(
        root, publish, quiet=quiet, grace=grace, rescan=rescan, label=label, identify=identify
    )
    await source.run(task_status=task_status)


def folder_source(
    root: Path,
    publish: PublishSnapshot,
    *,
    quiet: float = 0.25,
    grace: float = 2.0,
    rescan: float = 10.0,
    label: str = "apis",
    identify: Callable[[Mapping[str, bytes]], None] | None = None,
) -> FolderSource:
    """Create the source that `follow` runs. It may be run again after a failure."""
    tracker = Tracker(root, quiet=quiet, grace=grace, rescan=rescan, label=label)
    return FolderSource(
        tracker, publish, label=label, quiet=quiet, rescan=rescan, identify=identify
    )


class FolderSource:
    """The source of one folder; created by `folder_source`."""

    def __init__(
        self,
        tracker: Tracker,
        publish: PublishSnapshot,
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

    async def run(
        self, *, task_status: trio.TaskStatus[FolderSource] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Do the work of `follow`. When run again after a failure, it keeps its state."""
        tracker = self._tracker
        first = True
        # At the start there is no quiet period: the projects are used as they are.
        wait = 0.0 if self._published is None else self._quiet
        tracker.rescan_all()
        async with trio.open_nursery() as nursery:
            watches = self._watches = Watches(
                nursery, self._on_hint, label=self._label, retry=self._rescan
            )
            while True:
                await tracker.round(wait=wait, blind=watches.problem is not None)
                watches.cover(tracker.directories, tracker.epoch)
                if self._published is None or not tracker.should_wait():
                    self._publish_changed(watches.problem)
                if first:
                    first, wait = False, self._quiet
                    task_status.started(self)
                with trio.move_on_at(tracker.deadline()):
                    await self._wake.wait()
                self._wake = trio.Event()

    def _publish_changed(self, problem: Problem | None) -> None:
        """Publish the snapshot if it has changed; `problem` is that of the watches."""
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

    def _on_hint(self, paths: Collection[str], gone: Collection[str]) -> None:
        self._tracker.hint(paths, gone)
        self._wake.set()
