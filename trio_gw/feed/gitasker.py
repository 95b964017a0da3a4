"""Asks a remote repository now and then, judges new commits, and has the good ones served.

Run by one worker of all. An unchanged branch costs one question. A new commit is fetched alone, its
projects are read by the code that reads `apis/`, and if all of them are good, and fit together, it
takes the place of the one before. One that is not is left alone until the branch moves on, and what
it lacks is told. With `broken = "skip"` a broken project stays as it was, or out, and the others go
on. While the remote fails, the last good commit stays, and the pauses grow.
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
from trio_gw.feed import checkout, remote
from trio_gw.feed.deployed import GIT as ORIGIN
from trio_gw.feed.git import Git
from trio_gw.feed.gitstate import SHORT, State, source_of
from trio_gw.feed.gitwords import GitError
from trio_gw.feed.removal import remove

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table
    from trio_gw.config.settings import Settings
    from trio_gw.feed.gitsource import GitSource

log = logging.getLogger("trio_gw.feed")

IMPATIENCE = 5.0  # seconds before the next attempt while there is no commit at all
PATIENCE = 300.0  # seconds that a remote which fails is left alone at most, unless `interval` is


class Asker:
    """The one who asks, and writes what `source` serves. `settle` returns when all workers do."""

    def __init__(
        self,
        source: GitSource,
        settings: Settings,
        base: Path,
        settle: Callable[[], Awaitable[object]],
    ) -> None:
        self._source = source
        self._settings = settings
        self._table = settings.git
        self._base = base
        self._settle = settle
        self._git = Git(settings.git, base, os.environ)
        self._wake = trio.Event()
        self._renewed = settings.git
        self._asking = trio.CancelScope()  # what `renew` breaks off
        self._rejected = ""  # a commit that was looked at and not taken
        self._reasons: tuple[Problem, ...] = ()

    def renew(self, table: Table) -> None:
        """Take over another table, and ask what it says at once; a question that is out is dropped.

        What is served stays until there is something good to take its place.
        """
        self._renewed = table
        self._wake.set()
        self._asking.cancel()

    def _take_over(self) -> None:
        table, self._table = self._table, self._renewed
        self._git = Git(self._table, self._base, os.environ)
        self._rejected, self._reasons = "", ()
        if source_of(table) != source_of(self._table):
            branch = self._table.branch or "the default branch"
            log.info("git: %s, %s, is asked from now on", self._table.url, branch)

    async def run(self) -> None:
        """Ask until cancelled, as soon as no other process does."""
        try:
            await self._run()
        finally:
            self._source.tried.set()  # Whatever has gone wrong, nobody waits for it.

    async def _run(self) -> None:
        source = self._source
        while True:
            lock = source.trees.locked()
            try:
                mine = await self._source.in_thread(lock.__enter__)
                try:
                    if mine:
                        await source.in_thread(partial(source.trees.sweep, source.state.tree))
                        await self._ask_for_ever()
                finally:
                    lock.__exit__(None, None, None)
            except OSError as error:
                await self._tell(self._source.disk_problem(error))
            self._source.tried.set()  # If another gateway has the folder, this one follows.
            await trio.sleep(self._table.interval)

    async def _ask_for_ever(self) -> None:
        failures = 0
        while True:
            self._wake = trio.Event()
            if self._renewed is not self._table:
                self._take_over()
                failures = 0
            try:
                await self._round()
                failures = 0
            except GitError as error:
                failures = failures + 1 if error.passing else 0
                hint = self._source.hint(error.hint)
                await self._tell(Problem(self._table.url, 0, 0, error.what, hint))
            except OSError as error:
                failures += 1
                await self._tell(self._source.disk_problem(error))
            self._source.tried.set()
            with trio.move_on_after(self._pause(failures)):
                await self._wake.wait()

    def _pause(self, failures: int) -> float:
        """Wait longer and longer for a remote that fails; not long for the first commit."""
        interval = self._table.interval
        if not failures:
            return interval
        first = interval if self._served() else min(interval, IMPATIENCE)
        return float(min(first * 2.0 ** min(failures - 1, 16), max(interval, PATIENCE)))

    def _served(self) -> str:
        """Return the commit that is served, if it is of what is asked for."""
        state = self._source.state
        return state.commit if state.source == source_of(self._table) else ""

    async def _round(self) -> None:
        """Ask once; take up what is new. Raises `GitError`, OSError."""
        coming: State | None = None
        with trio.CancelScope() as self._asking:
            found = await remote.head(self._git, self._table, self._source.trees.root)
            if found.commit == self._served() and self._source.whole:
                self._rejected, self._reasons = "", ()
            elif found.commit != self._rejected:
                self._rejected, self._reasons = "", ()
                coming = await self._take(found)
        if self._renewed is self._table:
            if coming is not None:
                await self._serve(coming)
            state = self._source.state
            await self._source.record(msgspec.structs.replace(state, faults=self._reasons))

    async def _take(self, found: remote.Head) -> State | None:
        """Fetch a commit and judge it: the state that serves it, or None if it is rejected."""
        coming = await self._source.in_thread(self._source.trees.new_path)
        commit = found.commit
        try:
            await self._source.in_thread(coming.mkdir)
            commit = await remote.fetch(self._git, self._table, found, coming / "repository")
            await self._check_out(coming)
            found = found._replace(commit=commit)
            state = await self._decide(found, coming / "tree")
            if state is None:
                return None
            adopt = partial(self._source.trees.adopt, coming / "tree", commit)
            return msgspec.structs.replace(state, tree=await self._source.in_thread(adopt))
        except GitError as error:
            if error.passing:
                raise
            what = f"commit {commit[:SHORT]}{_of(found.branch)} is not taken up: {error.what}"
            problem = Problem(self._table.url, 0, 0, what, self._source.hint(error.hint))
            self._reject(commit, (problem,))
            return None
        finally:
            with trio.CancelScope(shield=True):
                await self._source.in_thread(partial(_discard, coming))

    async def _check_out(self, coming: Path) -> None:
        """Write the files of the fetched commit below `tree`."""
        listed = await remote.files(self._git, self._table, coming / "repository")
        wanted, packed = await self._source.in_thread(partial(_create, coming))
        with wanted, packed:
            await self._source.in_thread(partial(checkout.write_list, listed, wanted))
            await remote.contents(self._git, coming / "repository", wanted, packed)
            work = partial(checkout.take_apart, listed, packed, coming / "tree")
            await self._source.in_thread(work)

    async def _decide(self, found: remote.Head, tree: Path) -> State | None:
        """Judge what was checked out: the state that serves it, or None if it is rejected."""
        work = partial(checkout.load, tree, ORIGIN, self._source.loaded.known)
        loaded = await self._source.in_thread(work)
        shown = f"{ORIGIN}@{found.commit[:SHORT]}"
        left: tuple[Problem, ...] = ()
        if self._table.broken == "skip":
            broken = loaded.broken
            wrong = [each for name in broken for each in loaded.known[name].verdict.problems]
            left = renamed(wrong, ORIGIN, shown)
            if broken:
                old = self._source.state.tree if self._served() else ""
                before = self._source.trees.root / old if old else None
                await self._source.in_thread(partial(checkout.keep, tree, broken, before))
                loaded = await self._source.in_thread(work)
        else:
            wrong = [*loaded.problems, *checkout.judge(loaded.projects, self._settings)]
            if has_errors(wrong):
                told = renamed(wrong, ORIGIN, shown)
                errors = checkout.errors_of(told)
                what = (
                    f"commit {found.commit[:SHORT]}{_of(found.branch)} is not taken up:"
                    f" {errors} error{'s' if errors > 1 else ''} in it"
                )
                hint = self._source.hint('push one that fixes them, or set git.broken = "skip"')
                self._reject(found.commit, (Problem(self._table.url, 0, 0, what, hint), *told))
                return None
        if not loaded.known:
            what = f"commit {found.commit[:SHORT]}{_of(found.branch)} holds no API project"
            hint = "add one, or name their folder in git.path"
            left = (*left, Problem(self._table.url, 0, 0, what, hint, "warning"))
        source = source_of(self._table)
        return State(source, found.commit, found.branch, digests=loaded.digests, left=left)

    async def _serve(self, state: State) -> None:
        """Serve another commit; when all workers do, remove the one before."""
        before = self._source.state.commit
        await self._source.record(state)
        await self._settle()
        await self._source.in_thread(partial(self._source.trees.sweep, state.tree))
        what = f"{state.commit[:SHORT]}{_of(state.branch)}"
        was = f", before {before[:SHORT]}" if before else ""
        log.info("git: commit %s of %s is served%s", what, self._table.url, was)

    def _reject(self, commit: str, reasons: tuple[Problem, ...]) -> None:
        self._rejected, self._reasons = commit, reasons

    async def _tell(self, problem: Problem) -> None:
        await self._source.tell(problem, *self._reasons)


def _discard(coming: Path) -> None:
    """Remove what a fetch left; what cannot be removed now is left for `Trees.sweep`."""
    with contextlib.suppress(OSError):
        remove(coming)


def _create(coming: Path) -> tuple[BinaryIO, BinaryIO]:
    return open(coming / "list", "w+b"), open(coming / "packed", "w+b")


def _of(branch: str) -> str:
    return f" of branch {branch}" if branch else ""
