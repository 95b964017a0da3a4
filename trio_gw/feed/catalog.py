"""The catalog: the latest snapshot of every source, merged, compiled, compared, swapped in.

Sources call `publish`. Nothing is served before every expected origin has spoken; when the last
one has, the first table is live at once. Later snapshots are applied at the next turn of the event
loop: of several in one turn only the last state counts. A table that would serve the same as the
current one is not swapped in. Readers of `Live` see whole tables only.

Problems of all sources, and those that only show when everything is put together, are kept in
`problems` for the admin API. Each is logged when it appears and when it is gone, not in between.

Compiling happens in the event loop: 2,000 projects of five topics with one change take 13 ms
(80 ms the first time), and a source publishes a few times a second at most.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config import tiers
from trio_gw.routes import compile_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Environment
    from trio_gw.errors import Problem
    from trio_gw.feed.ledger import Snapshot
    from trio_gw.routes import Live, RouteTable

log = logging.getLogger("trio_gw.feed")

NAMES = 20  # titles that one log line lists at most


class Compiled(NamedTuple):
    """A table, the APIs it serves by organization and title, and what is wrong between them."""

    table: RouteTable
    served: dict[str, ApiProject]
    problems: tuple[Problem, ...]


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
    ) -> None:
        """Expect these `origins`; of two APIs in conflict the one of the earlier origin wins."""
        self.ready = trio.Event()
        self.problems: tuple[Problem, ...] = ()
        self._live = live
        self._environments = tuple(environments)
        self._strict_vhosts = strict_vhosts
        self._known_tiers = known_tiers
        self._snapshots: dict[str, Snapshot | None] = dict.fromkeys(origins)
        self._served: dict[str, ApiProject] = {}
        self._pending: trio.Event | None = None

    async def applied(self) -> None:
        """Return when all that was published so far is in the current table."""
        if self._pending is not None:
            await self._pending.wait()

    def publish(
        self,
        origin: str,
        projects: Mapping[str, ApiProject],
        problems: Sequence[Problem] = (),
    ) -> None:
        """Replace all that `origin` published before. Called in the Trio thread; never blocks.

        `projects` by folder name, whose order decides conflicts within the origin. Raises
        ValueError for an origin that is not expected.
        """
        if origin not in self._snapshots:
            raise ValueError(f"unexpected origin: {origin!r}")
        self._snapshots[origin] = dict(projects), tuple(problems)
        if self.ready.is_set():
            if self._pending is None:
                self._pending = trio.Event()
            token = trio.lowlevel.current_trio_token()
            token.run_sync_soon(self._apply, idempotent=True)
        else:
            self._apply()

    def _apply(self) -> None:
        pending, self._pending = self._pending, None
        self._compile()
        if pending is not None:
            pending.set()

    def _compile(self) -> None:
        snapshots = [snapshot for snapshot in self._snapshots.values() if snapshot is not None]
        problems = [problem for _, found in snapshots for problem in found]
        if len(snapshots) < len(self._snapshots):
            self._tell(problems)
            return
        compiled = compile_snapshots(
            [projects for projects, _ in snapshots],
            self._environments,
            strict_vhosts=self._strict_vhosts,
            previous=self._live.table,
            known_tiers=self._known_tiers,
        )
        self._tell([*problems, *compiled.problems])
        if compiled.table.digest != self._live.table.digest:
            self._live.swap(compiled.table)
            self._tell_changes(compiled.served)
        self.ready.set()

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


def compile_snapshots(
    snapshots: Iterable[Mapping[str, ApiProject]],
    environments: Sequence[Environment],
    *,
    strict_vhosts: bool = False,
    previous: RouteTable | None = None,
    known_tiers: Collection[str] = tiers.BUILTIN,
) -> Compiled:
    """Compile the projects of several origins, the most important first. Pure, may be slow.

    Also what the command line compiles with. Within an origin the order is that of the folders'
    names; it decides which of two projects in conflict is served.
    """
    merged = [project for snapshot in snapshots for _, project in sorted(snapshot.items())]
    table, problems = compile_table(
        merged, environments, strict_vhosts=strict_vhosts, previous=previous
    )
    served = {route.api.folder: route.api for *_, route in table.rows()}
    return Compiled(table, served, (*problems, *tiers.unknown(merged, known_tiers)))


def _titles(apis: Sequence[ApiProject]) -> str:
    titles = ", ".join(api.title for api in apis[:NAMES])
    more = len(apis) - NAMES
    return f"{titles} and {more} more" if more > 0 else titles
