"""Compare one root folder with the known state of its projects.

Driven by `feed.folder_source`. Hints go in with `hint`. Each `round` scans the projects that the
hints point to, reads those that have been quiet long enough, and updates `snapshot`. The disk is
accessed in worker threads only. The tracker does not use watches itself; it only lists the
directories to watch.

*Events are hints, signatures decide.* A hint only says where to look. Whether something changed is
decided by comparing signatures (`feed.project_files`); when it is read, by the quiet period of
that project (`feed.project_state`). So it does not matter whether an editor writes in place or
renames, or which events were lost: everything is scanned at regular intervals. The identity of the
root is checked in every round, which detects that the root or a folder above it was replaced.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from trio_gw.feed import project_files
from trio_gw.feed.examine import examine
from trio_gw.feed.load_folder import root_problem
from trio_gw.feed.project_state import ProjectStates
from trio_gw.watch.directory_id import DirectoryId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from trio_gw.errors import Problem
    from trio_gw.feed.project_state import Snapshot

T = TypeVar("T")

POLL = 0.25  # seconds between two checks of the identity of the root
BLIND_RESCAN = 1.0  # seconds between two full scans if there are no events


class Counts(NamedTuple):
    """Counters: scans of names, projects read, and projects loaded because their bytes differed."""

    scans: int
    reads: int
    loads: int


class Tracker:
    """The projects of `root`; `label` is its name in problems. All times are in seconds.

    `directories` should be watched. When `epoch` increases, all watches must be created again,
    because the directories may be different ones with the same names.
    """

    def __init__(
        self, root: Path, *, quiet: float, grace: float, rescan: float, label: str
    ) -> None:
        self.directories: frozenset[DirectoryId] = frozenset()
        self.epoch = 0
        self._root = root
        self._quiet = quiet
        self._grace = grace
        self._rescan = rescan
        self._label = label
        self._states = ProjectStates(quiet=quiet, grace=grace)
        # A separate thread, so that this work never waits for other users of threads.
        self._limiter = trio.CapacityLimiter(1)
        self._hints: set[str] = set()
        self._everywhere = True
        self._rescan_at = 0.0
        self._identity: DirectoryId | None = None  # None: missing, or not checked yet
        self._known_path = ""  # real path of the root when it was last found
        self._may_return = False  # the root was created again and may be incomplete
        self._lost_since: float | None = None
        self._lost: Problem | None = None
        self._watched: dict[str, frozenset[DirectoryId]] = {}
        self._owners: dict[str, set[str]] = {}  # real directory → projects with files in it
        self._moved = False  # `_watched` has changed
        self._scans = self._reads = self._loads = 0

    def counts(self) -> Counts:
        """Return the counters since the start."""
        return Counts(self._scans, self._reads, self._loads)

    def deadline(self) -> float:
        """Return the time of the next round if there is no hint."""
        poll = trio.current_time() + POLL
        if self._identity is None:
            return poll
        return min(poll, self._states.deadline(), self._rescan_at)

    def hint(self, paths: Iterable[str], gone: Iterable[str] = ()) -> None:
        """Scan the projects that may contain these paths; `gone` were removed or moved."""
        if self._identity is None:
            return
        root = self._identity.path
        for path in paths:
            parent, name = os.path.split(path)
            if path == root or not path.startswith(root.rstrip("/") + "/"):
                self._everywhere = True
            elif parent == root:
                # A link in any project may pass through a dot-name (`..data`).
                self._everywhere |= name.startswith(".")
                self._hints.add(name)
            self._hints |= self._owners.get(path, set()) | self._owners.get(parent, set())
        if root in gone:
            self._identity = None  # A new root may be equal, even the inode number.

    async def round(self, *, wait: float, blind: bool) -> None:
        """Scan and read what is due. `wait` is the quiet period; `blind`: hints may be missing."""
        if blind:
            # After a watch is lost, do not wait for the long interval.
            self._rescan_at = min(self._rescan_at, trio.current_time() + BLIND_RESCAN)
        try:
            await self._find_root()
            await self._look(wait, blind=blind)
            await self._read_due()
        except OSError as error:
            # Faults inside the root do not raise, so the root itself cannot be read.
            self._lose(error, wait)

    def rescan_all(self) -> None:
        """Scan everything in the next round, because a hint may have been lost."""
        self._everywhere = True

    def should_wait(self) -> bool:
        """Return whether to publish later, together with other changes of the same series."""
        return self._identity is not None and self._states.should_wait()

    def snapshot(self) -> Snapshot:
        """Return the good projects by name, and all current problems."""
        projects, problems = self._states.snapshot()
        lost = () if self._lost is None else (self._lost,)
        return projects, lost + problems

    def digests(self) -> dict[str, bytes]:
        """Return the digests of the files of all projects from their last reading."""
        return {name: self._states.digest(name) for name in self._states}

    async def _find_root(self) -> None:
        identity = await self._in_thread(partial(_identify, self._root))
        if identity == self._identity:
            return
        # If the root was removed and created again at the same path, it is probably still being
        # filled, so missing projects get the grace period. A root replaced by a link is complete.
        again = self._lost_since is not None or identity.path == self._known_path
        self._may_return = self._known_path != "" and again
        self._known_path = identity.path
        self._identity = identity
        self._everywhere = True
        self.epoch += 1

    def _lose(self, error: OSError, wait: float) -> None:
        now = trio.current_time()
        self._identity = None
        self.directories = frozenset()
        if self._lost_since is None:
            self._lost_since = now
        if now - self._lost_since >= wait:  # otherwise maybe between `rm` and `ln`
            self._lost = root_problem(self._label, error)

    async def _look(self, wait: float, *, blind: bool) -> None:
        """Compare the disk with the known states if there is a hint or a scan is due."""
        rescan = trio.current_time() >= self._rescan_at
        if not (self._everywhere or rescan or self._hints):
            return
        hinted = self._everywhere
        everywhere = hinted or rescan
        names, self._hints, self._everywhere = self._hints, set(), False
        changed = await self._scan(None if everywhere else frozenset(names), wait)
        if everywhere:
            self._may_return = False
            interval = min(BLIND_RESCAN, self._rescan) if blind else self._rescan
            self._rescan_at = trio.current_time() + interval
            if changed and not hinted and not blind:
                self.epoch += (
                    1  # There was no event for a change: the watches have stopped working.
                )
        self._lost_since = self._lost = None

    async def _scan(self, only: frozenset[str] | None, wait: float) -> bool:
        """Scan all projects, or `only` some, and enter the results. Return whether any changed."""
        assert self._identity is not None
        self._scans += 1
        path = self._identity.path
        found = await self._in_thread(
            partial(project_files.scan, path, label=self._label, only=only)
        )
        now = trio.current_time()
        self._set_directories("", frozenset((found.root,)))
        changed = False
        for name in {*self._states, *found.projects} if only is None else only:
            project = found.projects.get(name)
            if project is None:
                self._set_directories(name, frozenset())
                delay = self._grace if self._may_return else wait
                changed |= self._states.observe(name, None, now, wait=delay)
            else:
                self._set_directories(name, project.directories)
                changed |= self._states.observe(name, project.signature, now, wait=wait)
        if self._moved or not self.directories:
            self._moved = False
            self._owners = {}
            for name, directories in self._watched.items():
                for directory in directories if name else ():
                    self._owners.setdefault(directory.path, set()).add(name)
            self.directories = frozenset().union(*self._watched.values())
        return changed

    def _set_directories(self, name: str, directories: frozenset[DirectoryId]) -> None:
        if self._watched.get(name, frozenset()) != directories:
            self._moved = True
            if directories:
                self._watched[name] = directories
            else:
                del self._watched[name]

    async def _read_due(self) -> None:
        """Read the projects that have been quiet long enough; drop those that are still gone."""
        assert self._identity is not None
        states = self._states
        if gone := [name for name in states.due(trio.current_time()) if states.is_gone(name)]:
            await self._scan(frozenset(gone), self._quiet)  # Raises if the root is gone as well.
        for name in states.due(trio.current_time()):
            if states.is_gone(name):
                states.drop(name, trio.current_time())
                continue
            known = states.digest(name)
            reading = await self._in_thread(
                partial(examine, self._identity.path, name, self._label, known)
            )
            self._reads += 1
            self._loads += reading is not None and reading.result is not None
            states.record(name, reading, trio.current_time())
        states.expire_grace(trio.current_time())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # The work only reads, so shutdown does not wait for a file system that hangs.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)


def _identify(root: Path) -> DirectoryId:
    real = os.path.realpath(root, strict=True)
    state = os.stat(real)
    return DirectoryId(real, state.st_dev, state.st_ino)
