"""Compiles the projects of several origins into one route table.

`catalog` and the command line use it. It has no event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config import tiers
from trio_gw.routing.compiler import compile_table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Environment
    from trio_gw.errors import Problem
    from trio_gw.routing.conflicts import Claim, Holder
    from trio_gw.routing.table import RouteTable


class Compiled(NamedTuple):
    """A table, its APIs by folder, and the problems found when all projects are combined.

    `changed` is true if the holder of any claim has changed.
    """

    table: RouteTable
    served: dict[str, ApiProject]
    problems: tuple[Problem, ...]
    changed: bool


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

    The command line uses it as well. When two projects conflict, the one that already holds the
    claim (`held`) is served. If there is no holder, it is the project of the first origin, and
    within an origin the first by folder name.
    """
    names = origins or [str(number) for number in range(len(snapshots))]
    merged: list[ApiProject] = []
    project_origins: list[str] = []
    for origin, snapshot in zip(names, snapshots, strict=True):
        for _, project in sorted(snapshot.items()):
            merged.append(project)
            project_origins.append(origin)
    table, problems = compile_table(
        *(merged, environments),
        strict_vhosts=strict_vhosts,
        previous=previous,
        origins=project_origins,
        held=held,
        pause=pause,
    )
    served = {project.folder: project for _, _, project in table.bases()}
    problems = (*problems, *tiers.unknown(merged, known_tiers))
    return Compiled(table, served, problems, table.held != (held or {}))
