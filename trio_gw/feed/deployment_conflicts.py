"""Finds what a deployment would collide with: the APIs that are served on its hosts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.placement import Placement
    from trio_gw.routing.table import RouteTable


def conflicts(
    table: RouteTable, project: ApiProject, where: Sequence[Placement], *, override: bool
) -> Iterator[Problem]:
    """Find conflicts with deployed APIs; a warning for the same API, otherwise an error."""
    hosts = {one.host for one in where}
    reported = set()
    for host, base, api in table.bases():
        if host not in hosts or (host, api.folder) in reported:
            continue
        same_id = api.id == project.id
        if same_id and api.organization == project.organization:
            reported.add((host, api.folder))
            if not override:
                what = f"{project.title} is already deployed on {host}"
                hint = "deploy it with override, or undeploy it first"
                yield Problem(project.folder, 0, 0, what, hint, "warning")
            continue
        if base == project.base_path.rstrip("/"):
            what = f"base path {base or '/'} on {host} belongs to {api.title}"
            hint = "change the context or the version, or undeploy that API"
        elif same_id:
            what = f"{api.title} on {host} has the same id"
            hint = "change its `id`, or undeploy that API"
        elif (api.organization, api.title) == (project.organization, project.title):
            what = f"another {api.title} is deployed on {host}, with the id {api.id}"
            hint = "use that `id`, or change the name or version"
        else:
            continue
        reported.add((host, api.folder))
        yield Problem(project.folder, 0, 0, what, hint)
