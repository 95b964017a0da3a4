"""What the catalogue searches: one entry per API and host, made once per route table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from trio_gw.portal.catalogue_query import CatalogueEntry, CatalogueRow, entry
from trio_gw.portal.catalogue_texts import ProjectTexts, catalogue_texts
from trio_gw.portal.served_apis import is_visible, served_apis
from trio_gw.telemetry import families

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.errors import Problem
    from trio_gw.guard.roles import Role
    from trio_gw.portal.request import PortalRequest
    from trio_gw.portal.served_apis import ServedApi, ServedApis
    from trio_gw.portal.services import PortalServices
    from trio_gw.routing.table import RouteTable
    from trio_gw.telemetry.metrics import Snapshot


class CatalogueIndex(NamedTuple):
    """The entries that a role sees, and the values that occur in them."""

    entries: tuple[CatalogueEntry, ...]
    states: tuple[str, ...]
    sources: tuple[str, ...]
    hosts: tuple[str, ...]


_made: WeakKeyDictionary[RouteTable, dict[tuple[Role, bool], CatalogueIndex]] = WeakKeyDictionary()


async def catalogue_index(request: PortalRequest, *, texts: bool) -> CatalogueIndex:
    """Return the entries that the caller may see; with `texts` also what their files say."""
    services, role = request.services, request.caller.role
    served = await served_apis(services)
    made = _made.setdefault(services.context.live.table, {})
    if (role, texts) not in made:
        known: Mapping[str, ProjectTexts] = {}
        if texts:
            projects = [one.project for one in served.rows]
            known = await catalogue_texts(services).read(services, projects)
        made[role, texts] = await services.in_thread(lambda: make_index(served, role, known))
    return made[role, texts]


def make_index(served: ServedApis, role: Role, known: Mapping[str, ProjectTexts]) -> CatalogueIndex:
    """Make the entries of the APIs that a role sees; `known` are texts by folder."""
    nothing = ProjectTexts()
    entries = [
        _entry(one, known.get(one.project.folder, nothing))
        for one in served.rows
        if is_visible(one.state, role)
    ]
    rows = [one.row for one in entries]
    return CatalogueIndex(
        tuple(entries),
        tuple(sorted({row.state for row in rows})),
        tuple(sorted({row.source for row in rows})),
        tuple(sorted({row.host for row in rows})),
    )


def _entry(api: ServedApi, known: ProjectTexts) -> CatalogueEntry:
    project = api.project
    row = CatalogueRow(
        project.id,
        project.title,
        api.host,
        project.base_path,
        api.state,
        api.source,
        len(project.topics),
        is_secured(api),
        project.tier,
        known.changed,
    )
    return entry(row, (*(topic.name for topic in project.topics), *known.texts))


def is_secured(api: ServedApi) -> bool:
    """Return whether every topic asks for a token; a prototype asks for none."""
    return api.state != "PROTOTYPED" and all(topic.secured for topic in api.project.topics)


def problem_counts(problems: Iterable[Problem]) -> Mapping[str, int]:
    """Count problems by the folder of their project, as `ApiProject.folder` has it."""
    return Counter("/".join(problem.file.split("/", 2)[:2]) for problem in problems)


def with_problems(rows: list[CatalogueRow], counts: Mapping[str, int], served: ServedApis) -> None:
    """Write the number of problems of its project into each row."""
    folders = {
        (one.host, one.project.id): one.project.folder
        for row in rows
        for one in served.by_id.get(row.id, ())
    }
    for place, row in enumerate(rows):
        if found := counts.get(folders.get((row.host, row.id), ""), 0):
            rows[place] = msgspec.structs.replace(row, problems=found)


async def open_connections(services: PortalServices) -> Mapping[str, int]:
    """Count the open connections of all workers by the title of their API."""
    stats = await services.context.aggregate.stats()
    return {} if stats is None else count_open(stats[0])


def count_open(snapshot: Snapshot) -> Mapping[str, int]:
    """Add up the open connections of each API."""
    found: Counter[str] = Counter()
    for labels, (amount, *_) in snapshot.get(families.OPEN.name, {}).items():
        named = dict(zip(families.OPEN.labels, labels, strict=True))
        found[f"{named['api']}:{named['version']}"] += int(amount)
    return found
