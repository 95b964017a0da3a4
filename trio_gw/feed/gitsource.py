"""The git source: serve what a branch of a repository holds.

Every worker runs one and serves what the state in the folder says (`feed.gitstate`), looking four
times a second; one of them asks the remote as well (`feed.gitasker`), and writes the state. What is
served is a commit as a whole, the last good one, over restarts too. spec: adapter-rest §9.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import trio

from trio_gw.errors import Problem
from trio_gw.feed import checkout
from trio_gw.feed.checkout import Loaded
from trio_gw.feed.deployed import GIT as ORIGIN
from trio_gw.feed.gitstate import SHORT, State, Trees, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.git import GitSettings as Table
    from trio_gw.feed.gitstate import Mark

T = TypeVar("T")

LOOK = 0.25  # seconds between two looks at the state


class Publish(Protocol):
    """Receives what is served: projects by name, problems, and the digests of their files."""

    def __call__(
        self,
        projects: dict[str, ApiProject],
        problems: tuple[Problem, ...],
        digests: Mapping[str, str],
        /,
    ) -> None: ...


class GitSource:
    """One worker's view of the repository. `asks`: this is the one that asks the remote.

    `tried` is set once the remote has been asked, or need not be. `whole` says that what is served
    is what the commit of the state holds.
    """

    def __init__(self, table: Table, base: Path, publish: Publish, *, asks: bool) -> None:
        self.tried = trio.Event()
        self.trees = Trees(base / table.folder)
        self.source = source_of(table)
        self.state = State(self.source)
        self.loaded = Loaded({})
        self.whole = False
        self._folder = table.folder
        self._publish = publish
        self._asks = asks
        self._mark: Mark | None = None
        self._read_for = ""  # the source that was asked for when the state was read last
        self._unreadable: tuple[Problem, ...] = ()
        self._untold: tuple[Problem, ...] = ()  # could not be written down for the others
        self._limiter = trio.CapacityLimiter(1)
        self._refreshing = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started when what was served last is published."""
        try:
            await self.refresh()
        except Exception:
            self.tried.set()  # Nobody waits for what cannot be read.
            raise
        task_status.started()
        while True:
            await trio.sleep(LOOK)
            mark = await self.in_thread(self.trees.mark)
            if mark != self._mark or self.source != self._read_for:
                await self.refresh()

    def renew(self, table: Table) -> None:
        """Serve another repository, branch or folder of it once there is something of it.

        Until then what is served stays.
        """
        self.source = source_of(table)

    async def refresh(self) -> None:
        """Read the state as it is now, and publish what it says."""
        async with self._refreshing:
            settled = False
            while not settled:
                self._read_for = self.source
                mark = await self.in_thread(self.trees.mark)
                await self._load()
                # Else the tree may have been replaced, and swept away, while it was read.
                settled = self.whole or await self.in_thread(self.trees.mark) == mark
            self._mark = mark
            if self.state.commit or (mark is not None and not self._asks):
                self.tried.set()
        problems = (*self._untold, *self._unreadable, *self.state.faults, *self.state.left)
        problems += self.loaded.problems
        self._publish(self.loaded.projects, problems, self.loaded.digests)

    async def _load(self) -> None:
        """Load what the state names; what was loaded before stays if that cannot be read."""
        self._unreadable = ()
        try:
            state = await self.in_thread(partial(self.trees.read, self._read_for))
            if state is None:  # Nothing of what is wanted is there, so what is served stays.
                return
            self.whole = False
            loaded = Loaded({})
            if state.tree:
                tree = self.trees.root / state.tree
                work = partial(checkout.load, tree, ORIGIN, self.loaded.known)
                loaded = await self.in_thread(work)
        except OSError as error:
            self.whole = False
            self._unreadable = (self.disk_problem(error),)
        else:
            self.state, self.loaded = state, loaded
            self.whole = loaded.digests == state.digests

    # -- for the one that asks -----------------------------------------------------------------

    async def record(self, state: State) -> None:
        """Make this the state, for all workers. Raises OSError."""
        until = "" if state.source == self.source else self.source
        state = msgspec.structs.replace(state, until=until)
        if state != self.state or self._mark is None:
            await self.in_thread(partial(self.trees.write, state))
        elif not self._untold:
            return
        self._untold = ()
        await self.refresh()

    async def tell(self, *faults: Problem) -> None:
        """Let all workers know why nothing newer is served; if that fails as well, tell it here."""
        try:
            await self.record(msgspec.structs.replace(self.state, faults=faults))
        except OSError as error:
            self._untold = tuple(dict.fromkeys((*faults, self.disk_problem(error))))
            await self.refresh()

    def hint(self, hint: str) -> str:
        """Add to a remedy what is served meanwhile."""
        commit = self.state.commit
        still = f"commit {commit[:SHORT]} is still served" if commit else "nothing of it is served"
        return f"{hint}; {still}"

    def disk_problem(self, error: OSError) -> Problem:
        """Say that the folder cannot be used."""
        what = f"cannot be used for git ({os.strerror(error.errno or 0)})"
        hint = self.hint("let the gateway's user write there, or name another git.folder")
        return Problem(self._folder, 0, 0, what, hint)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what blocks, one thing at a time."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


async def either(event: trio.Event, other: trio.Event | None) -> None:
    """Wait for one of two events, whichever comes first."""

    async def wait(one: trio.Event) -> None:
        await one.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for one in (event, other):
            if one is not None:
                nursery.start_soon(wait, one)
