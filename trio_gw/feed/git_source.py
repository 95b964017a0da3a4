"""The git source: serve the API projects of a branch of a repository.

Every worker runs one and serves the state in the folder (`feed.commit_store`), which it checks
four times a second. One worker also polls the remote (`feed.git_poller`) and writes the state. A
commit is served as a whole: always the last good one, also after a restart.
spec: adapter-rest §9.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import trio

from trio_gw.errors import Problem
from trio_gw.feed import git_checkout, origins
from trio_gw.feed.commit_store import SHORT, CommitState, CommitStore, source_of
from trio_gw.feed.git_checkout import LoadedProjects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.git import GitSettings as Table
    from trio_gw.feed.atomic_file import FileVersion

T = TypeVar("T")

POLL = 0.25  # seconds between two checks of the state


class PublishCommit(Protocol):
    """Receives the served projects by name, all problems, and the digests of the files."""

    def __call__(
        self,
        projects: dict[str, ApiProject],
        problems: tuple[Problem, ...],
        digests: Mapping[str, str],
        /,
    ) -> None: ...


class GitSource:
    """The source of one worker. `polls`: this worker polls the remote.

    `tried` is set when the remote has been polled once, or need not be. `complete` is true if the
    served projects are those of the commit in the state.
    """

    def __init__(self, table: Table, base: Path, publish: PublishCommit, *, polls: bool) -> None:
        self.tried = trio.Event()
        self.store = CommitStore(base / table.folder)
        self.source = source_of(table)
        self.state = CommitState(self.source)
        self.loaded = LoadedProjects({})
        self.complete = False
        self._folder = table.folder
        self._publish = publish
        self._polls = polls
        self._version: FileVersion | None = None
        self._read_for = ""  # the value of `source` at the last read of the state
        self._unreadable: tuple[Problem, ...] = ()
        self._unwritten: tuple[Problem, ...] = ()  # could not be written to the state
        self._limiter = trio.CapacityLimiter(1)
        self._refreshing = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started when the last served commit is published."""
        try:
            await self.refresh()
        except Exception:
            self.tried.set()  # Nothing should wait for a state that cannot be read.
            raise
        task_status.started()
        while True:
            await trio.sleep(POLL)
            version = await self.in_thread(self.store.version)
            if version != self._version or self.source != self._read_for:
                await self.refresh()

    def renew(self, table: Table) -> None:
        """Serve another repository, branch or folder, as soon as there is a good commit of it.

        Until then the current commit stays.
        """
        self.source = source_of(table)

    async def refresh(self) -> None:
        """Read the current state and publish its projects."""
        async with self._refreshing:
            stable = False
            while not stable:
                self._read_for = self.source
                version = await self.in_thread(self.store.version)
                await self._load()
                # Otherwise the tree may have been replaced and removed during the read.
                stable = self.complete or await self.in_thread(self.store.version) == version
            self._version = version
            if self.state.commit or (version is not None and not self._polls):
                self.tried.set()
        problems = (*self._unwritten, *self._unreadable, *self.state.faults, *self.state.left)
        problems += self.loaded.problems
        self._publish(self.loaded.projects, problems, self.loaded.digests)

    async def _load(self) -> None:
        """Load the commit of the state; keep the loaded one if that cannot be read."""
        self._unreadable = ()
        try:
            state = await self.in_thread(partial(self.store.read, self._read_for))
            if state is None:  # There is nothing of the new source, so the current commit stays.
                return
            self.complete = False
            loaded = LoadedProjects({})
            if state.tree:
                tree = self.store.root / state.tree
                work = partial(git_checkout.load, tree, origins.GIT, self.loaded.known)
                loaded = await self.in_thread(work)
        except OSError as error:
            self.complete = False
            self._unreadable = (self.disk_problem(error),)
        else:
            self.state, self.loaded = state, loaded
            self.complete = loaded.digests == state.digests

    # -- for the poller ------------------------------------------------------------------------

    async def record(self, state: CommitState) -> None:
        """Write the state for all workers. Raises OSError."""
        until = "" if state.source == self.source else self.source
        state = msgspec.structs.replace(state, until=until)
        if state != self.state or self._version is None:
            await self.in_thread(partial(self.store.write, state))
        elif not self._unwritten:
            return
        self._unwritten = ()
        await self.refresh()

    async def report(self, *faults: Problem) -> None:
        """Write to the state why no newer commit is served; if that fails, report it here only."""
        try:
            await self.record(msgspec.structs.replace(self.state, faults=faults))
        except OSError as error:
            self._unwritten = tuple(dict.fromkeys((*faults, self.disk_problem(error))))
            await self.refresh()

    def hint(self, hint: str) -> str:
        """Add to a hint which commit is served at present."""
        commit = self.state.commit
        still = f"commit {commit[:SHORT]} is still served" if commit else "no commit is served yet"
        return f"{hint}; {still}"

    def disk_problem(self, error: OSError) -> Problem:
        """Return the problem that the folder cannot be used."""
        what = f"cannot be used for git ({os.strerror(error.errno or 0)})"
        hint = self.hint("give the gateway's user write access, or set another git.folder")
        return Problem(self._folder, 0, 0, what, hint)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work, one call at a time."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


async def either(event: trio.Event, other: trio.Event | None) -> None:
    """Wait until one of two events is set."""

    async def wait(one: trio.Event) -> None:
        await one.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for one in (event, other):
            if one is not None:
                nursery.start_soon(wait, one)
