"""The git source: ask a remote repository now and then, and serve what its branch holds.

Every worker runs one and serves what the state in the folder says (`feed.gitstate`), looking four
times a second; one of them asks the remote as well. An unchanged branch costs one question. A new
commit is fetched alone, its projects are read by the code that reads `apis/`, and if all of them
are good, and fit together, it takes the place of the one before, as a whole. One that is not is
left alone until the branch moves on; what it lacks is told, and the last good commit stays, over
restarts too. With `broken = "skip"` a broken project stays as it was, or out, and the others go on.
spec: adapter-rest §9.
"""

from __future__ import annotations

import logging
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import trio

from trio_gw.errors import Problem, has_errors
from trio_gw.feed import checkout, remote
from trio_gw.feed.checkout import Loaded
from trio_gw.feed.deployed import GIT as ORIGIN
from trio_gw.feed.git import Git
from trio_gw.feed.gitstate import State, Trees, source_of
from trio_gw.feed.gitwords import GitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.feed.gitstate import Mark

log = logging.getLogger("trio_gw.feed")

T = TypeVar("T")

LOOK = 0.25  # seconds between two looks at the state
IMPATIENCE = 5.0  # seconds before the next attempt while there is no commit at all
PATIENCE = 300.0  # seconds that a remote which fails is left alone at most, unless `interval` is
SHORT = 12  # digits of a commit in messages


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

    `settle` returns when all workers serve the same. `tried` is set once the remote has been
    asked, or need not be.
    """

    def __init__(
        self,
        settings: Settings,
        base: Path,
        publish: Publish,
        *,
        settle: Callable[[], Awaitable[object]],
        asks: bool = True,
    ) -> None:
        self.tried = trio.Event()
        table = self._table = settings.git
        self._settings = settings
        self._git = Git(table, base, os.environ)
        self._trees = Trees(base / table.folder)
        self._publish = publish
        self._settle = settle
        self._asks = asks
        self._source = source_of(table)
        self._state = State(self._source)
        self._mark: Mark | None = None
        self._loaded = Loaded({})
        self._whole = False  # what is served is what the commit holds
        self._unreadable: tuple[Problem, ...] = ()
        self._untold: tuple[Problem, ...] = ()  # could not be written down for the others
        self._rejected = ""  # a commit that was looked at and not taken
        self._reasons: tuple[Problem, ...] = ()
        self._limiter = trio.CapacityLimiter(1)
        self._refreshing = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started when what was served last is published."""
        await self.refresh()
        task_status.started()
        async with trio.open_nursery() as nursery:
            if self._asks:
                nursery.start_soon(self._ask)
            while True:
                await trio.sleep(LOOK)
                if await self._in_thread(self._trees.mark) != self._mark:
                    await self.refresh()

    async def refresh(self) -> None:
        """Read the state as it is now, and publish what it says."""
        async with self._refreshing:
            self._mark = await self._in_thread(self._trees.mark)
            self._unreadable = ()
            try:
                state = await self._in_thread(partial(self._trees.read, self._source))
                loaded = Loaded({})
                if state.tree:
                    tree = self._trees.root / state.tree
                    work = partial(checkout.load, tree, ORIGIN, self._loaded.known)
                    loaded = await self._in_thread(work)
            except OSError as error:
                # Of a tree that has just been replaced, or for good: then it is fetched again.
                self._whole = False
                self._unreadable = (self._disk_problem(error),)
            else:
                self._state, self._loaded = state, loaded
                self._whole = loaded.digests == state.digests
            if self._state.commit or (self._mark is not None and not self._asks):
                self.tried.set()
        problems = (*self._untold, *self._unreadable, *self._state.faults, *self._state.left)
        problems += self._loaded.problems
        self._publish(self._loaded.projects, problems, self._loaded.digests)

    # -- asking the remote ---------------------------------------------------------------------

    async def _ask(self) -> None:
        while True:
            lock = self._trees.locked()
            try:
                mine = await self._in_thread(lock.__enter__)
                try:
                    if mine:
                        await self._in_thread(partial(self._trees.sweep, self._state.tree))
                        await self._ask_for_ever()
                finally:
                    lock.__exit__(None, None, None)
            except OSError as error:
                await self._tell(self._disk_problem(error))
            self.tried.set()  # If another gateway has the folder, this one follows.
            await trio.sleep(self._table.interval)

    async def _ask_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                await self._round()
                failures = 0
            except GitError as error:
                failures = failures + 1 if error.passing else 0
                await self._tell(Problem(self._table.url, 0, 0, error.what, self._mend(error.mend)))
            except OSError as error:
                failures += 1
                await self._tell(self._disk_problem(error))
            self.tried.set()
            await trio.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        """Wait longer and longer for a remote that fails; not long for the first commit."""
        interval = self._table.interval
        if not failures:
            return interval
        first = interval if self._state.commit else min(interval, IMPATIENCE)
        return float(min(first * 2.0 ** min(failures - 1, 16), max(interval, PATIENCE)))

    async def _round(self) -> None:
        """Ask once; take up what is new. Raises `GitError`, OSError."""
        found = await remote.head(self._git, self._table, self._trees.root)
        if found.commit == self._state.commit and self._whole:
            self._rejected, self._reasons = "", ()
        elif found.commit != self._rejected:
            self._rejected, self._reasons = "", ()
            await self._take(found)
        await self._record(msgspec.structs.replace(self._state, faults=self._reasons))

    async def _take(self, found: remote.Head) -> None:
        """Fetch a commit, judge it, and serve it or remember why not."""
        coming = await self._in_thread(self._trees.new_path)
        commit = found.commit
        try:
            await self._in_thread(coming.mkdir)
            commit = await remote.fetch(self._git, self._table, found, coming / "repository")
            await self._check_out(coming)
            found = found._replace(commit=commit)
            state = await self._decide(found, coming / "tree")
            if state is not None:
                adopt = partial(self._trees.adopt, coming / "tree", commit)
                name = await self._in_thread(adopt)
                await self._serve(msgspec.structs.replace(state, tree=name))
        except GitError as error:
            if error.passing:
                raise
            what = f"commit {commit[:SHORT]}{_of(found.branch)} is not taken up: {error.what}"
            problem = Problem(self._table.url, 0, 0, what, self._mend(error.mend))
            self._reject(commit, (problem,))
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(partial(shutil.rmtree, coming, ignore_errors=True))

    async def _check_out(self, coming: Path) -> None:
        """Write the files of the fetched commit below `tree`."""
        listed = await remote.files(self._git, self._table, coming / "repository")
        with open(coming / "list", "w+b") as wanted, open(coming / "packed", "w+b") as packed:  # noqa: ASYNC230 - only opened here
            await self._in_thread(partial(checkout.write_list, listed, wanted))
            await remote.contents(self._git, coming / "repository", wanted, packed)
            work = partial(checkout.take_apart, listed, packed, coming / "tree")
            await self._in_thread(work)

    async def _decide(self, found: remote.Head, tree: Path) -> State | None:
        """Judge what was checked out: the state that serves it, or None if it is rejected."""
        work = partial(checkout.load, tree, ORIGIN, self._loaded.known)
        loaded = await self._in_thread(work)
        shown = f"{ORIGIN}@{found.commit[:SHORT]}"
        left: tuple[Problem, ...] = ()
        if self._table.broken == "skip":
            broken = loaded.broken
            wrong = [each for name in broken for each in loaded.known[name].verdict.problems]
            left = checkout.renamed(wrong, ORIGIN, shown)
            before = self._trees.root / self._state.tree if self._state.tree else None
            if broken:
                await self._in_thread(partial(checkout.keep, tree, broken, before))
                loaded = await self._in_thread(work)
        else:
            wrong = [*loaded.problems, *checkout.judge(loaded.projects, self._settings)]
            if has_errors(wrong):
                told = checkout.renamed(wrong, ORIGIN, shown)
                errors = checkout.errors_of(told)
                what = (
                    f"commit {found.commit[:SHORT]}{_of(found.branch)} is not taken up:"
                    f" {errors} error{'s' if errors > 1 else ''} in it"
                )
                mend = self._mend('push one that mends them, or set git.broken = "skip"')
                self._reject(found.commit, (Problem(self._table.url, 0, 0, what, mend), *told))
                return None
        if not loaded.known:
            what = f"commit {found.commit[:SHORT]}{_of(found.branch)} holds no API project"
            mend = "add one, or name their folder in git.path"
            left = (*left, Problem(self._table.url, 0, 0, what, mend, "warning"))
        return State(self._source, found.commit, found.branch, digests=loaded.digests, left=left)

    async def _serve(self, state: State) -> None:
        """Serve another commit; when all workers do, remove the one before."""
        before = self._state.commit
        await self._record(state)
        await self._settle()
        await self._in_thread(partial(self._trees.sweep, state.tree))
        what = f"{state.commit[:SHORT]}{_of(state.branch)}"
        was = f", before {before[:SHORT]}" if before else ""
        log.info("git: commit %s of %s is served%s", what, self._table.url, was)

    def _reject(self, commit: str, reasons: tuple[Problem, ...]) -> None:
        self._rejected, self._reasons = commit, reasons

    async def _tell(self, problem: Problem) -> None:
        """Let all workers know what is wrong; if that fails as well, tell it here."""
        try:
            faults = (problem, *self._reasons)
            await self._record(msgspec.structs.replace(self._state, faults=faults))
        except OSError as error:
            self._untold = tuple(dict.fromkeys((problem, self._disk_problem(error))))
            await self.refresh()

    async def _record(self, state: State) -> None:
        """Make this the state, for all workers. Raises OSError."""
        if state != self._state or self._mark is None:
            await self._in_thread(partial(self._trees.write, state))
        elif not self._untold:
            return
        self._untold = ()
        await self.refresh()

    # -- words ---------------------------------------------------------------------------------

    def _mend(self, mend: str) -> str:
        """Add to a remedy what is served meanwhile."""
        commit = self._state.commit
        still = f"commit {commit[:SHORT]} is still served" if commit else "nothing of it is served"
        return f"{mend}; {still}"

    def _disk_problem(self, error: OSError) -> Problem:
        what = f"cannot be used for git ({os.strerror(error.errno or 0)})"
        mend = self._mend("let the gateway's user write there, or name another git.folder")
        return Problem(self._table.folder, 0, 0, what, mend)

    async def _in_thread(self, work: Callable[[], T]) -> T:
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


def _of(branch: str) -> str:
    return f" of branch {branch}" if branch else ""
