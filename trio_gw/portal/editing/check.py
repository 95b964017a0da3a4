"""Checks a draft as a deployment does, and tells what it would change. Blocks: no event loop.

spec: portal §2.8.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trio_gw.config import tiers
from trio_gw.config.placement import placements
from trio_gw.config.project import load
from trio_gw.errors import Problem, has_errors
from trio_gw.feed.deployment_conflicts import conflicts
from trio_gw.portal.editing import meaning, passwords, text_diff
from trio_gw.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from trio_gw.config.api import ApiProject
    from trio_gw.portal.editing.meaning import ProjectChange
    from trio_gw.portal.editing.text_diff import DraftFileDiff
    from trio_gw.routing.table import RouteTable

_FOLDER = "project"  # how the loader calls the draft; not shown
MOST_ROUTES = 500
MOST_PROBLEMS = 200


class Base(NamedTuple):
    """What a draft would replace: its project, its files, and those as they are shown."""

    project: ApiProject | None = None
    files: Mapping[str, bytes] = {}
    shown: Mapping[str, str] = {}


class RouteRow(msgspec.Struct, frozen=True):
    """One topic as clients see it, and where it leads."""

    topic: str
    path: str
    secured: bool
    scopes: tuple[str, ...]
    tier: str
    production: tuple[str, ...]
    sandbox: tuple[str, ...]


class Checked(msgspec.Struct, frozen=True):
    """The outcome. `hosts` are those that would serve it; `conflicts` bar its deployment."""

    problems: tuple[Problem, ...]
    routes: tuple[RouteRow, ...] = ()
    hosts: tuple[str, ...] = ()
    diff: tuple[DraftFileDiff, ...] = ()
    theirs: tuple[DraftFileDiff, ...] = ()
    meaning: tuple[ProjectChange, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    title: str = ""
    id: str = ""
    base_path: str = ""
    unenforced: tuple[str, ...] = ()
    connections: dict[str, Any] = {}

    @property
    def good(self) -> bool:
        """Whether it can be deployed."""
        return not has_errors(self.problems) and not has_errors(self.conflicts)


def check(
    files: Mapping[str, str],
    base: Base,
    table: RouteTable,
    vhost_of: Mapping[str, str],
    known_tiers: Collection[str],
    began: Mapping[str, str] | None = None,
) -> Checked:
    """Check a draft against the base that it would replace, and what else is served.

    `began` are the files that the draft began with: what others changed since is told, too.
    """
    texts = passwords.restored(files, base.files)
    held = {path: text.encode() for path, text in texts.items()}
    loaded = load(held, _FOLDER, os.environ)
    project = loaded.project
    problems = [*loaded.problems]
    if project is not None:
        problems += tiers.unknown([project], known_tiers)
    diff = tuple(text_diff.differences(base.shown, files))
    theirs = () if began is None else tuple(text_diff.differences(began, base.shown))
    if project is None:
        return Checked(_relative(problems), diff=diff, theirs=theirs)
    where = placements(project.deployments, vhost_of)
    hosts = tuple(dict.fromkeys(one.host for one in where))
    known = ", ".join(sorted(vhost_of))
    for one in project.deployments:
        if one.environment not in vhost_of:
            what = f"this gateway does not know the environment `{one.environment[:80]}`"
            problems.append(Problem(_FOLDER, 0, 0, what, f"known are: {known}", "warning"))
    if not hosts:
        what = "deployed nowhere: this gateway knows none of its environments"
        problems.append(Problem(_FOLDER, 0, 0, what, f"use one of these: {known}"))
    return Checked(
        _relative(problems),
        routes=tuple(_row(Route(project, each)) for each in project.topics[:MOST_ROUTES]),
        hosts=hosts,
        diff=diff,
        theirs=theirs,
        meaning=tuple(meaning.changes(base.project, project, vhost_of)),
        conflicts=_relative(conflicts(table, project, where, override=base.project is not None)),
        title=project.title,
        id=project.id,
        base_path=project.base_path,
        unenforced=project.unenforced,
    )


def _row(route: Route) -> RouteRow:
    topic = route.topic
    return RouteRow(
        topic.name,
        route.pattern,
        route.secured,
        topic.scopes or (),
        topic.tier,
        tuple(route.backend_urls("production")[:10]),
        tuple(route.backend_urls("sandbox")[:10]),
    )


def _relative(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Name the files of problems as the editor does, errors first."""
    ordered = sorted(problems, key=lambda each: (each.severity != "error", each))[:MOST_PROBLEMS]
    return tuple(
        msgspec.structs.replace(each, file=each.file.removeprefix(_FOLDER).removeprefix("/"))
        for each in ordered
    )
