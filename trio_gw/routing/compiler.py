"""Compile API projects into a route table, and report what cannot be served."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.placement import DEFAULT_ENVIRONMENT, place, placements, vhosts
from trio_gw.errors import Problem
from trio_gw.routing.api_routes import ApiRoutes
from trio_gw.routing.conflicts import Claimant, resolve
from trio_gw.routing.table import RouteTable
from trio_gw.routing.virtual_host import VirtualHost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Environment
    from trio_gw.routing.conflicts import Claim, Holder

MAX_PARTS = 100_000  # segments and parameters in all channels of one API


def compile_table(
    projects: Sequence[ApiProject],
    environments: Sequence[Environment],
    *,
    strict_vhosts: bool = False,
    previous: RouteTable | None = None,
    origins: Sequence[str] = (),
    held: Mapping[Claim, Holder] | None = None,
    pause: Callable[[], None] = lambda: None,
) -> tuple[RouteTable, tuple[Problem, ...]]:
    """Compile projects into a table.

    When two projects claim the same id, the same name and version, or the same base path on a
    host, the one that holds the claim wins, otherwise the first (see `conflicts`). `origins` gives
    the origin of each project. There is always a table: what cannot be served is left out and
    reported as a problem. Routes of projects that did not change since `previous` are reused.
    `pause` is called every few dozen microseconds.
    """
    vhost_of = vhosts(environments)
    problems: list[Problem] = []
    hosted: dict[str, VirtualHost] = {}
    apis: dict[str, ApiRoutes] = {}
    claimants: list[Claimant] = []
    digest = hashlib.sha256(msgspec.json.encode((list(environments), strict_vhosts)))
    for number, project in enumerate(projects):
        pause()
        if (parts := _count_parts(project)) > MAX_PARTS:
            what = f"its channels have {parts:,} segments and parameters, more than {MAX_PARTS:,}"
            problems.append(Problem(project.folder, 0, 0, what, "split it into several APIs"))
            continue
        hosts = _hosts(project, vhost_of, problems)
        if not hosts:
            what = "deployed nowhere: this gateway knows none of its environments"
            hint = "add the environment under [[environments]] in gateway.toml"
            problems.append(Problem(project.folder, 0, 0, what, hint, "warning"))
        known = previous.apis.get(project.folder) if previous else None
        same = known is not None and (known.project is project or known.project == project)
        api = known if known is not None and same else ApiRoutes(project, pause)
        apis[project.folder] = api
        digest.update(api.digest)
        claimants.append(Claimant(project, origins[number] if origins else "", hosts))
    resolution = resolve(claimants, held or {}, pause)
    for claim, number in resolution.granted.items():
        pause()
        if claim.kind == "base":
            project = claimants[number].project
            hosted.setdefault(claim.host, VirtualHost()).add(claim.value, apis[project.folder])
            digest.update(msgspec.json.encode((claim, project.folder)))
    default = "" if strict_vhosts else vhost_of[DEFAULT_ENVIRONMENT]
    holders = {claim: claimants[number].holder for claim, number in resolution.granted.items()}
    table = RouteTable(hosted, default, apis, digest.hexdigest(), holders)
    return table, (*problems, *resolution.problems)


def _count_parts(project: ApiProject) -> int:
    """Count segments and parameters: compile time and memory grow with them."""
    names = (topic.name for topic in project.topics)
    return sum(name.count("/") + name.count("{") for name in names)


def _hosts(
    project: ApiProject, vhost_of: Mapping[str, str], problems: list[Problem]
) -> tuple[str, ...]:
    """List the hosts that serve a project (spec: project-format §7.1)."""
    for deployment in project.deployments:
        if place(deployment, vhost_of) is None:
            what = f"unknown environment {deployment.environment!r} is ignored"
            hint = "add it under [[environments]] in gateway.toml"
            problems.append(Problem(project.folder, 0, 0, what, hint, "warning"))
    placed = placements(project.deployments, vhost_of)
    return tuple(dict.fromkeys(one.host for one in placed))


EMPTY, _ = compile_table((), ())
