"""Applies the states that were set here to projects, whichever source they come from. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.api import ApiProject
    from trio_gw.feed.deployment_index import DeploymentIndex


def managed(projects: Mapping[str, ApiProject], index: DeploymentIndex) -> dict[str, ApiProject]:
    """Return the projects with their states, without those that are retired."""
    if not index.states:
        return dict(projects)
    states = {(each.organization, each.id): each.managed for each in index.states}
    found: dict[str, ApiProject] = {}
    for name, project in projects.items():
        state = states.get((project.organization, project.id))
        if state is None:
            found[name] = project
        elif state.state != "RETIRED":
            found[name] = msgspec.structs.replace(project, lifecycle=state.state, managed=state)
    return found
