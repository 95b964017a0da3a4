"""The revisions of APIs and their lifecycle, for those who show or change them.

`tag` identifies what is served of an API, so that two who change it at the same time notice it.
spec: portal §2.8, §2.9.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config import lifecycle
from trio_gw.feed import archive
from trio_gw.feed.deployment_index import ApiState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.lifecycle import State
    from trio_gw.feed.deployment_index import Revision
    from trio_gw.feed.index_changes import IndexChanges
    from trio_gw.feed.revision_store import KeptRevision

log = logging.getLogger("trio_gw.deploy")


ORGANIZATION = "carbon.super"  # of projects that name none


class KnownApi(NamedTuple):
    """An API by its identity: served, retired, or undeployed with revisions left."""

    organization: str
    id: str
    title: str


class StepError(Exception):
    """A step of the lifecycle that is not allowed; the text says why."""


class LifecycleStep(NamedTuple):
    """A step of an API in its lifecycle: the new state, and who takes it."""

    state: State
    user: str = ""
    successor: str = ""
    sunset: int = 0


class Revisions:
    """Reads the revisions and changes the states; `changes` is what changes the index."""

    def __init__(self, changes: IndexChanges) -> None:
        self._changes = changes
        self._store = changes.store.revisions

    def current(self, api: ApiProject | KnownApi) -> Revision | None:
        """Return the latest revision that is served; None if no copy is deployed."""
        entries = self._changes.index.entries_of(api.organization, api.id)
        return entries[0].revision if entries else None

    def tag(self, api: ApiProject | KnownApi) -> str:
        """Return the tag of what is served: `r7`, of a folder `f…`, or empty."""
        if (revision := self.current(api)) is not None:
            return f"r{revision.number}"
        deployments = self._changes.deployments
        for name, project in deployments.remaining(deployments.folder_projects()).items():
            if (project.organization, project.id) == (api.organization, api.id):
                return f"f{deployments.digests.get(name, '')[:16]}"
        return ""

    async def next_number(self, api: ApiProject) -> int:
        """Return the number for the next revision. Hold the lock."""
        found = await self.listed(api)
        return 1 + max((each.revision.number for each in found), default=0)

    async def listed(self, api: ApiProject | KnownApi) -> list[KeptRevision]:
        """List the revisions of an API, the latest first. Raises OSError."""
        index = self._changes.index
        work = partial(self._store.revisions, index, api.organization, api.id)
        return await self._changes.in_thread(work)

    async def path(self, api: ApiProject | KnownApi, number: int) -> Path | None:
        """Return the path of the zip of a revision; None if there is no such revision."""
        index = self._changes.index
        work = partial(self._store.path, index, api.organization, api.id, number)
        return await self._changes.in_thread(work)

    async def files(self, api: ApiProject | KnownApi, number: int) -> dict[str, bytes] | None:
        """Read the files of a revision; None if it is gone.

        Raises `UnusableError` if the zip is damaged, OSError if it cannot be read.
        """
        path = await self.path(api, number)
        if path is None:
            return None
        try:
            return await self._changes.in_thread(partial(archive.unpack, path, path.name))
        except FileNotFoundError:  # removed meanwhile
            return None

    # -- lifecycle -----------------------------------------------------------------------------

    def state_of(self, api: ApiProject | KnownApi) -> ApiState | None:
        """Return the state that was set here; None if the file of the API decides."""
        return self._changes.index.state_of(api.organization, api.id)

    def source_project(self, api: ApiProject | KnownApi) -> ApiProject | None:
        """Return the API as its source has it, also when it is retired; None if it is gone."""
        for project in self._sourced():
            if (project.organization, project.id) == (api.organization, api.id):
                return project
        return None

    def replaced(self, api: ApiProject | KnownApi) -> list[str]:
        """Name the projects of folders and git that have the same API."""
        found = self._changes.deployments.folder_projects()
        return [
            project.folder
            for project in found.values()
            if project.organization == api.organization
            and (project.id == api.id or project.title == api.title)
        ]

    def has_original(self, api: ApiProject | KnownApi) -> bool:
        """Return whether a folder or git has this API, whatever is deployed in its place."""
        projects = self._changes.deployments.folder_projects().values()
        return any((each.organization, each.id) == (api.organization, api.id) for each in projects)

    def find(self, title: str) -> list[KnownApi]:
        """List the APIs with this `<name>:<version>` that a source has, also retired ones."""
        found = (
            KnownApi(each.organization, each.id, each.title)
            for each in self._sourced()
            if each.title == title
        )
        return list(dict.fromkeys(found))

    async def by_id(self, api_id: str) -> KnownApi | None:
        """Find an API that a source has, also a retired one, or that has revisions left."""
        for project in self._sourced():
            if project.id == api_id:
                return KnownApi(project.organization, project.id, project.title)
        usual = KnownApi(ORGANIZATION, api_id, "")
        kept = await self.listed(usual)
        return usual._replace(title=kept[0].title) if kept else None

    async def unserved(self) -> list[tuple[KnownApi, str]]:
        """List the APIs that are retired (`RETIRED`), or undeployed with revisions left (empty)."""
        there = {(each.organization, each.id) for each in self._sourced()}
        retired = {
            (each.organization, each.id): each.title
            for each in self._changes.index.states
            if each.state == "RETIRED"
        }
        found = [
            (KnownApi(organization, api_id, title), "RETIRED")
            for (organization, api_id), title in retired.items()
        ]
        for organization, api_id, title in await self._changes.in_thread(self._store.apis):
            if (organization, api_id) not in there and (organization, api_id) not in retired:
                found.append((KnownApi(organization, api_id, title), ""))
        return sorted(found, key=lambda each: each[0].title)

    def _sourced(self) -> list[ApiProject]:
        """List the projects of all sources, the latest deployed first; broken ones are left out."""
        deployments = self._changes.deployments
        projects, _ = deployments.projects(self._changes.index)
        folder = deployments.remaining(deployments.folder_projects())
        return [*reversed(projects.values()), *folder.values()]

    def steps(self, api: ApiProject | KnownApi) -> Sequence[State]:
        """List the states that may follow the current one."""
        if (state := self.state_of(api)) is not None:
            return lifecycle.steps(state.state, acts=True)
        project = self.source_project(api)
        return () if project is None else lifecycle.steps(project.lifecycle, acts=False)

    async def set_state(self, api: ApiProject | KnownApi, change: LifecycleStep) -> bool:
        """Set the state of an API; returns whether all workers follow already.

        Raises `StepError` if the step is not allowed, OSError or `UnusableError` if it fails.
        """
        async with self._changes.begin():
            before = self.state_of(api)
            same = before is not None and before.state == change.state
            if not same and change.state not in (allowed := self.steps(api)):
                project = self.source_project(api)
                if project is None:
                    raise StepError("the API is not there any more")
                now = before.state if before is not None else lifecycle.known(project.lifecycle)
                after = ", ".join(allowed) or "nothing"
                raise StepError(f"{change.state} cannot follow {now}; allowed: {after}")
            state = ApiState(
                *(api.organization, api.id, api.title, change.state),
                at=before.at if same and before is not None else int(time.time()),
                user=change.user[:120],
                successor=change.successor[:200] if change.state == "DEPRECATED" else "",
                sunset=change.sunset if change.state == "DEPRECATED" else 0,
            )
            converged = await self._changes.commit(self._changes.index.with_state(state))
        log.info("%s is %s now", api.title, change.state)
        return converged
