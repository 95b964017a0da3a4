"""Poll a remote repository, check new commits, and serve the good ones.

Only one of the workers runs it. For an unchanged branch a poll is a single request. A new commit
is fetched without its history, and its projects are read by the same code as `apis/`. If all
projects are good and do not conflict, the commit replaces the current one. Otherwise it is
rejected until the branch changes, and its problems are reported. With `broken = "skip"`, a broken
project keeps its last good version, or is left out, and the other projects are updated. If the
remote fails, the last good commit stays in use and the pauses between polls grow.
"""

from __future__ import annotations

import contextlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import trio

from trio_gw.errors import Problem, has_errors, renamed
from trio_gw.feed import git_checkout, git_remote, origins
from trio_gw.feed.commit_store import SHORT, CommitState, source_of
from trio_gw.feed.git_command import GitCommand
from trio_gw.feed.git_errors import GitError
from trio_gw.feed.remove_tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table
    from trio_gw.config.settings import Settings
    from trio_gw.feed.git_source import GitSource

log = logging.getLogger("trio_gw.feed")

FIRST_RETRY = 5.0  # maximum seconds until the second attempt while there is no commit at all
MAX_PAUSE = 300.0  # maximum seconds between attempts at a failing remote, unless `interval` is more


class GitPoller:
    """Polls, and writes the state that `source` serves.

    `converge` returns when all workers serve the current state.
    """

    def __init__(
        self,
        source: GitSource,
        settings: Settings,
        base: Path,
        converge: Callable[[], Awaitable[object]],
    ) -> None:
        self._source = source
        self._settings = settings
        self._table = settings.git
        self._base = base
        self._converge = converge
        self._git = GitCommand(settings.git, base, os.environ)
        self._wake = trio.Event()
        self._renewed = settings.git
        self._polling = trio.CancelScope()  # cancelled by `renew`
        self._rejected = ""  # a commit that was checked and rejected
        self._reasons: tuple[Problem, ...] = ()

    def renew(self, table: Table) -> None:
        """Use other settings and poll at once; a poll in progress is cancelled.

        The current commit stays until there is a good one to replace it.
        """
        self._renewed = table
        self._wake.set()
        self._polling.cancel()

    def _use_renewed(self) -> None:
        table, self._table = self._table, self._renewed
        self._git = GitCommand(self._table, self._base, os.environ)
        self._rejected, self._reasons = "", ()
        if source_of(table) != source_of(self._table):
            branch = self._table.branch or "the default branch"
            log.info("git: the repository is now %s, %s", self._table.url, branch)

    async def run(self) -> None:
        """Poll until cancelled, whenever no other process does."""
        try:
            await self._run()
        finally:
            self._source.tried.set()  # After any failure, nothing should wait for a first poll.

    async def _run(self) -> None:
        source = self._source
        while True:
            try:
                # The thread that takes the lock also registers its release: an exception at this
                # `await` cannot leave the lock taken.
                with contextlib.ExitStack() as held:
                    lock = partial(held.enter_context, source.store.locked())
                    if await source.in_thread(lock):
                        await source.in_thread(partial(source.store.sweep, source.state.tree))
                        await self._poll_forever()
            except OSError as error:
                await self._report(source.disk_problem(error))
            source.tried.set()  # If another gateway holds the folder, this one follows it.
            await trio.sleep(self._table.interval)

    async def _poll_forever(self) -> None:
        failures = 0
        while True:
            self._wake = trio.Event()
            if self._renewed is not self._table:
                self._use_renewed()
                failures = 0
            try:
                await self._poll()
                failures = 0
            except GitError as error:
                failures = failures + 1 if error.temporary else 0
                hint = self._source.hint(error.hint)
                await self._report(Problem(self._table.url, 0, 0, error.what, hint))
            except OSError as error:
                failures += 1
                await self._report(self._source.disk_problem(error))
            self._source.tried.set()
            with trio.move_on_after(self._pause(failures)):
                await self._wake.wait()

    def _pause(self, failures: int) -> float:
        """Return the pause: it doubles with every failure, and is short before the first commit."""
        interval = self._table.interval
        if not failures:
            return interval
        first = interval if self._served() else min(interval, FIRST_RETRY)
        return float(min(first * 2.0 ** min(failures - 1, 16), max(interval, MAX_PAUSE)))

    def _served(self) -> str:
        """Return the served commit, if it belongs to the source in the settings."""
        state = self._source.state
        return state.commit if state.source == source_of(self._table) else ""

    async def _poll(self) -> None:
        """Poll once and serve a new good commit. Raises `GitError`, OSError."""
        new: CommitState | None = None
        with trio.CancelScope() as self._polling:
            found = await git_remote.head(self._git, self._table, self._source.store.root)
            if found.commit == self._served() and self._source.complete:
                self._rejected, self._reasons = "", ()
            elif found.commit != self._rejected:
                self._rejected, self._reasons = "", ()
                new = await self._take(found)
        if self._renewed is self._table:
            if new is not None:
                await self._serve(new)
            state = self._source.state
            await self._source.record(msgspec.structs.replace(state, faults=self._reasons))

    async def _take(self, found: git_remote.BranchHead) -> CommitState | None:
        """Fetch a commit and check it. Return the state that serves it, None if rejected."""
        temporary = await self._source.in_thread(self._source.store.new_path)
        commit = found.commit
        try:
            await self._source.in_thread(temporary.mkdir)
            repository = temporary / "repository"
            commit = await git_remote.fetch(self._git, self._table, found, repository)
            await self._check_out(temporary)
            found = found._replace(commit=commit)
            state = await self._check(found, temporary / "tree")
            if state is None:
                return None
            adopt = partial(self._source.store.adopt, temporary / "tree", commit)
            return msgspec.structs.replace(state, tree=await self._source.in_thread(adopt))
        except GitError as error:
            if error.temporary:
                raise
            what = f"commit {commit[:SHORT]}{_of(found.branch)} is rejected: {error.what}"
            problem = Problem(self._table.url, 0, 0, what, self._source.hint(error.hint))
            self._reject(commit, (problem,))
            return None
        finally:
            with trio.CancelScope(shield=True):
                await self._source.in_thread(partial(_discard, temporary))

    async def _check_out(self, temporary: Path) -> None:
        """Write the files of the fetched commit below `tree`."""
        listed = await git_remote.files(self._git, self._table, temporary / "repository")
        wanted, packed = await self._source.in_thread(partial(_create, temporary))
        with wanted, packed:
            await self._source.in_thread(partial(git_checkout.write_list, listed, wanted))
            await git_remote.contents(self._git, temporary / "repository", wanted, packed)
            work = partial(git_checkout.unpack, listed, packed, temporary / "tree")
            await self._source.in_thread(work)

    async def _check(self, found: git_remote.BranchHead, tree: Path) -> CommitState | None:
        """Check the files of a commit. Return the state that serves it, None if rejected."""
        work = partial(git_checkout.load, tree, origins.GIT, self._source.loaded.known)
        loaded = await self._source.in_thread(work)
        shown = f"{origins.GIT}@{found.commit[:SHORT]}"
        left: tuple[Problem, ...] = ()
        if self._table.broken == "skip":
            broken = loaded.broken
            faults = [each for name in broken for each in loaded.known[name].result.problems]
            left = renamed(faults, origins.GIT, shown)
            if broken:
                old = self._source.state.tree if self._served() else ""
                before = self._source.store.root / old if old else None
                await self._source.in_thread(partial(git_checkout.restore, tree, broken, before))
                loaded = await self._source.in_thread(work)
        else:
            faults = [*loaded.problems, *git_checkout.conflicts(loaded.projects, self._settings)]
            if has_errors(faults):
                reported = renamed(faults, origins.GIT, shown)
                errors = git_checkout.count_errors(reported)
                what = (
                    f"commit {found.commit[:SHORT]}{_of(found.branch)} is rejected:"
                    f" it has {errors} error{'s' if errors > 1 else ''}"
                )
                hint = self._source.hint('push a correction, or set git.broken = "skip"')
                problem = Problem(self._table.url, 0, 0, what, hint)
                self._reject(found.commit, (problem, *reported))
                return None
        if not loaded.known:
            what = f"commit {found.commit[:SHORT]}{_of(found.branch)} has no API project"
            hint = "add one, or set git.path to their folder"
            left = (*left, Problem(self._table.url, 0, 0, what, hint, "warning"))
        source = source_of(self._table)
        return CommitState(source, found.commit, found.branch, digests=loaded.digests, left=left)

    async def _serve(self, state: CommitState) -> None:
        """Serve another commit; when all workers serve it, remove the old one."""
        before = self._source.state.commit
        await self._source.record(state)
        await self._converge()
        await self._source.in_thread(partial(self._source.store.sweep, state.tree))
        what = f"{state.commit[:SHORT]}{_of(state.branch)}"
        was = f", before {before[:SHORT]}" if before else ""
        log.info("git: commit %s of %s is served%s", what, self._table.url, was)

    def _reject(self, commit: str, reasons: tuple[Problem, ...]) -> None:
        self._rejected, self._reasons = commit, reasons

    async def _report(self, problem: Problem) -> None:
        await self._source.report(problem, *self._reasons)


def _discard(temporary: Path) -> None:
    """Remove the files of a fetch. Files that cannot be removed are left for `sweep`."""
    with contextlib.suppress(OSError):
        remove_tree(temporary)


def _create(temporary: Path) -> tuple[BinaryIO, BinaryIO]:
    return open(temporary / "list", "w+b"), open(temporary / "packed", "w+b")


def _of(branch: str) -> str:
    return f" of branch {branch}" if branch else ""
