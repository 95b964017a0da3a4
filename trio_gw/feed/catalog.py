"""The catalog: the latest snapshot of every source, merged, compiled, compared, swapped in.

Sources call `publish`; `run` compiles. Nothing is served before every expected origin has spoken.
Snapshots are compiled in a worker thread, which lets the event loop run after every millisecond;
those that come meanwhile are compiled afterwards, of several only the last state. A table that
would serve the same as the current one is not swapped in. Readers of `Live` see whole tables only.

Problems of all sources, and those that only show when everything is put together, are kept in
`problems` for the admin API. Each is logged when it appears and when it is gone, not in between.

Who is served first keeps it (`conflicts`), over restarts too (`precedence`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from trio_gw.config import tiers
from trio_gw.routing.compiler import compile_table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Environment
    from trio_gw.errors import Problem
    from trio_gw.feed.ledger import Snapshot
    from trio_gw.feed.precedence import Mark, Precedence
    from trio_gw.routing.conflicts import Claim, Holder
    from trio_gw.routing.table import Live, RouteTable

log = logging.getLogger("trio_gw.feed")

T = TypeVar("T")

SLICE, BREAK = 0.001, 0.0005  # seconds of work in a thread, and for the others after it
LOOK = 0.25  # seconds between two looks at what the worker that decides has written
NAMES = 20  # titles that one log line lists at most


class Compiled(NamedTuple):
    """A table, the APIs it serves by folder, and what is wrong between them.

    `changed` tells whether somebody holds what was not held by the same before.
    """

    table: RouteTable
    served: dict[str, ApiProject]
    problems: tuple[Problem, ...]
    changed: bool


class Catalog:
    """What all origins published. `ready` is set once a table made of all of them is live."""

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
        """Expect these `origins`, the most important first. `precedence` keeps who was first."""
        self.ready = trio.Event()
        self.problems: tuple[Problem, ...] = ()
        self.conflicts: tuple[Problem, ...] = ()  # those that show when all is put together
        self._live = live
        self._environments = tuple(environments)
        self._strict_vhosts = strict_vhosts
        self._known_tiers = known_tiers
        self._precedence = precedence
        self._mark: Mark | None = None
        self._snapshots: dict[str, Snapshot | None] = dict.fromkeys(origins)
        self._served: dict[str, ApiProject] = {}
        self._held: Mapping[Claim, Holder] = {}
        self._published = self._applied = 0  # states of the snapshots
        self._wake = trio.Event()  # there is one that is not applied
        self._done = trio.Event()  # one has been applied
        self._failed = False  # what is published could not be compiled
        self._limiter = trio.CapacityLimiter(1)

    async def applied(self) -> None:
        """Return when all that was published so far is in the current table."""
        wanted = self._published
        while self._applied < wanted:
            await self._done.wait()

    def publish(
        self,
        origin: str,
        projects: Mapping[str, ApiProject],
        problems: Sequence[Problem] = (),
    ) -> None:
        """Replace all that `origin` published before. Called in the Trio thread; never blocks.

        `projects` by folder name, whose order decides conflicts within the origin that are new.
        Raises ValueError for an origin that is not expected.
        """
        if origin not in self._snapshots:
            raise ValueError(f"unexpected origin: {origin!r}")
        self._snapshots[origin] = dict(projects), tuple(problems)
        snapshots = self._spoken()
        if len(snapshots) == len(self._snapshots):
            self._published += 1
            self._wake.set()
        else:
            self._tell(problem for _, found in snapshots for problem in found)

    def miss(self, origin: str) -> None:
        """Go on without an origin that has failed; what it publishes later is taken up."""
        if self._snapshots[origin] is None:
            self.publish(origin, {})

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Compile what is published, and follow what others decide, until cancelled.

        Run again after a failure, it tries anew what it could not compile.
        """
        if self._failed:
            self._wake.set()
        if (precedence := self._precedence) is not None and not self._applied:
            self._mark, self._held = await self._in_thread(
                lambda: (precedence.mark(), precedence.read(first=True))
            )
        task_status.started()
        async with trio.open_nursery() as nursery:
            if precedence is not None and not precedence.decides:
                nursery.start_soon(self._follow, precedence)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._compile()

    def _spoken(self) -> list[Snapshot]:
        return [snapshot for snapshot in self._snapshots.values() if snapshot is not None]

    async def _compile(self) -> None:
        """Compile what is published now, and make it the current table."""
        state, held = self._published, self._held
        snapshots = self._spoken()
        projects = {origin: snapshot[0] for origin, snapshot in self._snapshots.items() if snapshot}
        self._failed, fault = True, None
        try:
            compiled = await self._in_thread(lambda: self._compiled(projects, held))
        except Exception as error:
            fault = error
        if fault is not None:
            # Nobody waits for what may never be; the last good table stays.
            self._tell(problem for _, found in snapshots for problem in found)
            if not self.ready.is_set():  # There is none yet: serve what can be.
                compiled = await self._in_thread(lambda: self._compilable(projects, held))
                self._live.swap(compiled.table)
                self._tell_changes(compiled.served)
            self._settle(state)
            raise fault
        self._failed = False
        self.conflicts = compiled.problems
        self._tell([*(problem for _, found in snapshots for problem in found), *compiled.problems])
        if compiled.table.digest != self._live.table.digest:
            self._live.swap(compiled.table)
            self._tell_changes(compiled.served)
        if self._held is held:  # else others have decided meanwhile, and it is compiled anew
            self._held = compiled.table.held
        self._settle(state)
        precedence = self._precedence
        if precedence is not None and precedence.decides and compiled.changed:
            with trio.CancelScope(shield=True):  # what has been served is to be known later
                await self._in_thread(lambda: precedence.write(compiled.table.held))

    def _settle(self, state: int) -> None:
        self._applied = state
        self.ready.set()
        done, self._done = self._done, trio.Event()
        done.set()

    def _compiled(
        self, projects: Mapping[str, Mapping[str, ApiProject]], held: Mapping[Claim, Holder]
    ) -> Compiled:
        """Compile the projects of these origins. Called in a thread."""
        return compile_snapshots(
            list(projects.values()),
            self._environments,
            strict_vhosts=self._strict_vhosts,
            previous=self._live.table,
            known_tiers=self._known_tiers,
            origins=tuple(projects),
            held=held,
            pause=Slices().pause,
        )

    def _compilable(
        self, projects: Mapping[str, Mapping[str, ApiProject]], held: Mapping[Claim, Holder]
    ) -> Compiled:
        """Leave out the origins with which compiling fails."""
        good: dict[str, Mapping[str, ApiProject]] = {}
        for origin, found in projects.items():
            with contextlib.suppress(Exception):
                self._compiled({**good, origin: found}, held)
                good[origin] = found
        return self._compiled(good, held)

    async def _follow(self, precedence: Precedence) -> None:
        """Take over what the worker that decides has written."""
        while True:
            await trio.sleep(LOOK)
            mark = await self._in_thread(precedence.mark)
            if mark == self._mark:
                continue
            self._mark = mark
            decided = await self._in_thread(lambda: precedence.read(first=False))
            if any(self._held.get(claim) != holder for claim, holder in decided.items()):
                self._held = {**self._held, **decided}
                self._published += 1
                self._wake.set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _tell(self, problems: Iterable[Problem]) -> None:
        """Take over the current problems, and log which are new and which are gone."""
        before = set(self.problems)
        self.problems = tuple(dict.fromkeys(problems))
        for problem in self.problems:
            if problem not in before:
                level = logging.ERROR if problem.severity == "error" else logging.WARNING
                log.log(level, "%s", problem)
        for problem in sorted(before.difference(self.problems)):
            log.info("solved: %s", problem)

    def _tell_changes(self, served: dict[str, ApiProject]) -> None:
        before, self._served = self._served, served
        changes = (
            ("added", [api for key, api in served.items() if key not in before]),
            ("changed", [api for key, api in served.items() if before.get(key, api) != api]),
            ("removed", [api for key, api in before.items() if key not in served]),
        )
        words = [f"{word} {_titles(apis)}" for word, apis in changes if apis]
        counted = f"{len(served)} {'API' if len(served) == 1 else 'APIs'}"
        log.info("table %d: %s", self._live.generation, "; ".join([counted, *words]))


class Slices:
    """Lets others run after every millisecond of work in a thread, and ends it when cancelled."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE

    def pause(self) -> None:
        """Let others run if it is time. Raises what cancels the thread's task."""
        if time.perf_counter() >= self._until:
            trio.from_thread.check_cancelled()
            time.sleep(BREAK)
            self._until = time.perf_counter() + SLICE


def compile_snapshots(
    snapshots: Sequence[Mapping[str, ApiProject]],
    environments: Sequence[Environment],
    *,
    strict_vhosts: bool = False,
    previous: RouteTable | None = None,
    known_tiers: Collection[str] = tiers.BUILTIN,
    origins: Sequence[str] = (),
    held: Mapping[Claim, Holder] | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Compiled:
    """Compile the projects of several origins, the most important first. May be slow.

    Also what the command line compiles with. Of two projects in conflict the one that has `held`
    what both want is served; if neither has, the one of the first origin, and within an origin the
    one whose folder's name sorts first.
    """
    names = origins or [str(number) for number in range(len(snapshots))]
    merged: list[ApiProject] = []
    whose: list[str] = []
    for origin, snapshot in zip(names, snapshots, strict=True):
        for _, project in sorted(snapshot.items()):
            merged.append(project)
            whose.append(origin)
    table, problems = compile_table(
        *(merged, environments),
        strict_vhosts=strict_vhosts,
        previous=previous,
        origins=whose,
        held=held,
        pause=pause,
    )
    served = {project.folder: project for _, _, project in table.bases()}
    problems = (*problems, *tiers.unknown(merged, known_tiers))
    return Compiled(table, served, problems, table.held != (held or {}))


def _titles(apis: Sequence[ApiProject]) -> str:
    titles = ", ".join(api.title for api in apis[:NAMES])
    more = len(apis) - NAMES
    return f"{titles} and {more} more" if more > 0 else titles
