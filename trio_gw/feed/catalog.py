"""The catalog: merge the latest snapshots of all sources, compile them, and swap the table.

Sources call `publish`; `run` compiles. Nothing is served before every expected origin has
published. Snapshots are compiled in a worker thread, which pauses every millisecond so that the
event loop can run. Snapshots published meanwhile are compiled afterwards, only in their last
state. A table that is equal to the current one is not swapped in. Readers of `Live` always see
complete tables.

`problems` has the problems of all sources, and those found when all projects are combined, for the
admin API. Each problem is logged when it appears and when it is solved.

When projects conflict, the one that was served first stays (`conflicts`), also after a restart
(`precedence`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, TypeVar

import trio

from trio_gw.config import tiers
from trio_gw.feed.compile import compile_snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Environment
    from trio_gw.errors import Problem
    from trio_gw.feed.atomic_file import FileVersion
    from trio_gw.feed.compile import Compiled
    from trio_gw.feed.precedence import Precedence
    from trio_gw.feed.project_state import Snapshot
    from trio_gw.routing.conflicts import Claim, Holder
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw.feed")

T = TypeVar("T")

SLICE, BREAK = 0.001, 0.0005  # seconds of work in the thread, and of the pause after it
POLL = 0.25  # seconds between two checks of the precedence file
MAX_TITLES = 20  # in one log line


class Catalog:
    """The snapshots of all origins. `ready` is set when a table with all of them is live."""

    def __init__(
        self,
        live: Live,
        environments: Sequence[Environment],
        origins: Sequence[str],
        *,
        strict_vhosts: bool = False,
        known_tiers: Collection[str] = tiers.BUILTIN,
        precedence: Precedence | None = None,
    ) -> None:
        """Expect these `origins`, the most important first."""
        self.ready = trio.Event()
        self.problems: tuple[Problem, ...] = ()
        self.conflicts: tuple[Problem, ...] = ()  # problems found when all projects are combined
        self._live = live
        self._environments = tuple(environments)
        self._strict_vhosts = strict_vhosts
        self._known_tiers = known_tiers
        self._precedence = precedence
        self._version: FileVersion | None = None
        self._snapshots: dict[str, Snapshot | None] = dict.fromkeys(origins)
        self._served: dict[str, ApiProject] = {}
        self._held: Mapping[Claim, Holder] = {}
        self._published = self._applied = 0  # counters of snapshot states
        self._wake = trio.Event()  # set if a state is not applied yet
        self._done = trio.Event()  # set when a state has been applied
        self._failed = False  # the published snapshots could not be compiled
        self._limiter = trio.CapacityLimiter(1)

    async def applied(self) -> None:
        """Return when everything published so far is in the current table."""
        wanted = self._published
        while self._applied < wanted:
            await self._done.wait()

    def publish(
        self,
        origin: str,
        projects: Mapping[str, ApiProject],
        problems: Sequence[Problem] = (),
    ) -> None:
        """Replace the snapshot of `origin`. Called in the Trio thread; never blocks.

        `projects` are by folder name. The order of the names decides new conflicts in the origin.
        Raises ValueError for an unexpected origin.
        """
        if origin not in self._snapshots:
            raise ValueError(f"unexpected origin: {origin!r}")
        self._snapshots[origin] = dict(projects), tuple(problems)
        snapshots = self._received()
        if len(snapshots) == len(self._snapshots):
            self._published += 1
            self._wake.set()
        else:
            self._report(problem for _, found in snapshots for problem in found)

    def skip_origin(self, origin: str) -> None:
        """Continue without an origin that has failed; it may still publish later."""
        if self._snapshots[origin] is None:
            self.publish(origin, {})

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Compile published snapshots and follow the precedence file until cancelled.

        When run again after a failure, it tries to compile the failed snapshots again.
        """
        if self._failed:
            self._wake.set()
        if (precedence := self._precedence) is not None and not self._applied:
            self._version, self._held = await self._in_thread(
                lambda: (precedence.version(), precedence.read(first=True))
            )
        task_status.started()
        async with trio.open_nursery() as nursery:
            if precedence is not None and not precedence.decides:
                nursery.start_soon(self._follow, precedence)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._compile()

    def _received(self) -> list[Snapshot]:
        return [snapshot for snapshot in self._snapshots.values() if snapshot is not None]

    async def _compile(self) -> None:
        """Compile the current snapshots and make the result the current table."""
        revision, held = self._published, self._held
        snapshots = self._received()
        projects = {origin: snapshot[0] for origin, snapshot in self._snapshots.items() if snapshot}
        self._failed, fault = True, None
        try:
            compiled = await self._in_thread(lambda: self._compiled(projects, held))
        except Exception as error:
            fault = error
        if fault is not None:
            # The last good table stays. `applied` must not wait for a table that may never exist.
            self._report(problem for _, found in snapshots for problem in found)
            if not self.ready.is_set():  # There is no table yet: serve what is possible.
                compiled = await self._in_thread(lambda: self._compilable(projects, held))
                self._live.swap(compiled.table)
                self._log_changes(compiled.served)
            self._set_applied(revision)
            raise fault
        self._failed = False
        self.conflicts = compiled.problems
        self._report(
            [*(problem for _, found in snapshots for problem in found), *compiled.problems]
        )
        if compiled.table.digest != self._live.table.digest:
            self._live.swap(compiled.table)
            self._log_changes(compiled.served)
        if (
            self._held is held
        ):  # otherwise the precedence file has changed, and the next compilation uses it
            self._held = compiled.table.held
        self._set_applied(revision)
        precedence = self._precedence
        if precedence is not None and precedence.decides and compiled.changed:
            with trio.CancelScope(shield=True):  # a restart must know what has been served
                await self._in_thread(lambda: precedence.write(compiled.table.held))

    def _set_applied(self, revision: int) -> None:
        self._applied = revision
        self.ready.set()
        done, self._done = self._done, trio.Event()
        done.set()

    def _compiled(
        self, projects: Mapping[str, Mapping[str, ApiProject]], held: Mapping[Claim, Holder]
    ) -> Compiled:
        """Compile the projects of these origins. Called in a worker thread."""
        return compile_snapshots(
            list(projects.values()),
            self._environments,
            strict_vhosts=self._strict_vhosts,
            previous=self._live.table,
            known_tiers=self._known_tiers,
            origins=tuple(projects),
            held=held,
            pause=TimeSlices().pause,
        )

    def _compilable(
        self, projects: Mapping[str, Mapping[str, ApiProject]], held: Mapping[Claim, Holder]
    ) -> Compiled:
        """Compile without the origins that make compiling fail."""
        good: dict[str, Mapping[str, ApiProject]] = {}
        for origin, found in projects.items():
            with contextlib.suppress(Exception):
                self._compiled({**good, origin: found}, held)
                good[origin] = found
        return self._compiled(good, held)

    async def _follow(self, precedence: Precedence) -> None:
        """Follow the precedence file that the deciding worker writes."""
        while True:
            await trio.sleep(POLL)
            version = await self._in_thread(precedence.version)
            if version == self._version:
                continue
            self._version = version
            decided = await self._in_thread(lambda: precedence.read(first=False))
            if any(self._held.get(claim) != holder for claim, holder in decided.items()):
                self._held = {**self._held, **decided}
                self._published += 1
                self._wake.set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _report(self, problems: Iterable[Problem]) -> None:
        """Replace the current problems, and log the new and the solved ones."""
        before = set(self.problems)
        self.problems = tuple(dict.fromkeys(problems))
        for problem in self.problems:
            if problem not in before:
                level = logging.ERROR if problem.severity == "error" else logging.WARNING
                log.log(level, "%s", problem)
        for problem in sorted(before.difference(self.problems)):
            log.info("solved: %s", problem)

    def _log_changes(self, served: dict[str, ApiProject]) -> None:
        before, self._served = self._served, served
        changes = (
            ("added", [api for key, api in served.items() if key not in before]),
            ("changed", [api for key, api in served.items() if before.get(key, api) != api]),
            ("removed", [api for key, api in before.items() if key not in served]),
        )
        words = [f"{word} {_titles(apis)}" for word, apis in changes if apis]
        counted = f"{len(served)} {'API' if len(served) == 1 else 'APIs'}"
        log.info("table %d: %s", self._live.generation, "; ".join([counted, *words]))


class TimeSlices:
    """Pauses the work in a thread every millisecond, and ends it when it is cancelled."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE

    def pause(self) -> None:
        """Pause if the slice is over. Raises if the task of the thread is cancelled."""
        if time.perf_counter() >= self._until:
            trio.from_thread.check_cancelled()
            time.sleep(BREAK)
            self._until = time.perf_counter() + SLICE


def _titles(apis: Sequence[ApiProject]) -> str:
    titles = ", ".join(api.title for api in apis[:MAX_TITLES])
    more = len(apis) - MAX_TITLES
    return f"{titles} and {more} more" if more > 0 else titles
