"""Deploy a project, undeploy one, or set its state: checked, stored, and live when a call returns.

Called by the admin API and the portal. An upload is read and loaded by the same code as projects in
`apis/`. If it has problems, they are returned and nothing changes. Otherwise the index in the
deployment store is replaced. The result is returned when the resulting table is live in every
worker. spec: adapter-rest §4, §5.2; portal §2.8.
"""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import trio

from trio_gw.config.placement import Placement, host_name, placements
from trio_gw.config.project import load
from trio_gw.errors import Problem, UnusableError, has_errors, renamed
from trio_gw.feed import archive
from trio_gw.feed.deployment_conflicts import conflicts
from trio_gw.feed.deployment_index import HiddenProject, Revision, is_same_api
from trio_gw.feed.index_changes import IndexChanges, acquired
from trio_gw.feed.revision_store import digest_of
from trio_gw.feed.revisions import Revisions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.project import LoadedProject
    from trio_gw.feed.catalog import Catalog
    from trio_gw.feed.deployment_index import ApiState
    from trio_gw.feed.deployment_source import DeploymentSource
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw.deploy")

UPLOAD_TIMEOUT = 20.0  # seconds to wait until other uploads are unpacked and checked
NAME_LENGTH = 120  # characters of the name of an upload in problems
NOTE_LENGTH = 500  # characters of the note of a revision

Status = Literal["deployed", "nowhere", "exists", "conflict", "broken", "changed", "busy"]


class Author(NamedTuple):
    """Who deploys, through which door, and what for."""

    user: str = ""
    via: Literal["portal", "api"] = "api"
    note: str = ""


class Outcome(NamedTuple):
    """The result of a deployment. `nowhere`: no problem, but its environments are unknown here.

    `changed`: the API is not any more what the caller began with; `busy`: other deployments took
    too long. `revision` is the new one, or the one that is there instead. Without `converged`, some
    workers do not serve it yet.
    """

    status: Status
    problems: tuple[Problem, ...] = ()
    project: ApiProject | None = None
    where: tuple[Placement, ...] = ()
    revision: Revision | None = None
    converged: bool = True


class Served(NamedTuple):
    """One API on one host, as in the list of APIs."""

    host: str
    project: ApiProject
    environments: tuple[str, ...]


class Deployer:
    """Deploys and undeploys APIs. `converge` returns when all workers serve the same table."""

    def __init__(
        self,
        deployments: DeploymentSource,
        catalog: Catalog,
        live: Live,
        vhost_of: Mapping[str, str],
        converge: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.changes = IndexChanges(deployments, catalog, converge)
        self.revisions = Revisions(self.changes)
        self._deployments = deployments
        self._deployment_store = deployments.store
        self._catalog = catalog
        self._live = live
        self._vhost_of = vhost_of
        self._loading = trio.Lock()  # only one upload is in memory at a time

    def served(self) -> list[Served]:
        """List the APIs of the current table, one item per API and host."""
        seen: dict[tuple[str, str], Served] = {}
        for host, _, api in self._live.table.bases():
            if (host, api.folder) not in seen:
                where = placements(api.deployments, self._vhost_of)
                names = tuple(one.environment for one in where if one.host == host)
                seen[host, api.folder] = Served(host, api, names)
        return list(seen.values())

    async def deploy(
        self,
        upload: BinaryIO,
        name: str,
        *,
        override: bool,
        author: Author = Author(),  # noqa: B008 - a frozen value
        expected: str | None = None,
    ) -> Outcome:
        """Deploy the zip in this file; `name` is its name in problems.

        `expected` is the tag of what it replaces (`Revisions.tag`); None if that does not matter.
        """
        label = "".join(c if c.isprintable() else "?" for c in name)[:NAME_LENGTH] or "upload"
        unpack = partial(archive.unpack, upload, label)
        return await self._guarded(unpack, label, author, override=override, expected=expected)

    async def deploy_files(
        self,
        files: Mapping[str, bytes],
        label: str,
        *,
        override: bool,
        author: Author,
        expected: str | None = None,
    ) -> Outcome:
        """Deploy these files of a project, as `deploy` does; `label` is its name in problems."""

        def read() -> dict[str, bytes]:
            return dict(files)

        return await self._guarded(read, label, author, override=override, expected=expected)

    async def _guarded(
        self,
        read: Callable[[], dict[str, bytes]],
        label: str,
        author: Author,
        *,
        override: bool,
        expected: str | None,
    ) -> Outcome:
        try:
            async with acquired(self._loading, UPLOAD_TIMEOUT):
                return await self._deploy(read, label, author, override=override, expected=expected)
        except UnusableError as error:
            return Outcome("broken", error.problems)
        except TimeoutError:
            what = "timed out waiting for other deployments"
            return Outcome("busy", (Problem(label, 0, 0, what, "try again"),))
        except OSError as error:
            what = f"cannot be stored ({os.strerror(error.errno or 0)})"
            hint = "check the folder `deployed` of the gateway"
            return Outcome("broken", (Problem(label, 0, 0, what, hint),))

    async def _deploy(
        self,
        read: Callable[[], dict[str, bytes]],
        label: str,
        author: Author,
        *,
        override: bool,
        expected: str | None,
    ) -> Outcome:
        def opened() -> tuple[Mapping[str, bytes], LoadedProject, str]:
            files = read()
            return files, load(files, label, os.environ), digest_of(files)

        files, loaded, digest = await self.changes.in_thread(opened)
        project = loaded.project
        if project is None or has_errors(loaded.problems):
            return Outcome("broken", loaded.problems)
        where = placements(project.deployments, self._vhost_of)
        if not where:
            known = ", ".join(sorted(self._vhost_of))
            what = f"deployed nowhere: this gateway knows none of its environments, only {known}"
            hint = "use one of these in deployment_environments.yaml, or add [[environments]]"
            problem = Problem(label, 0, 0, what, hint, "warning")
            return Outcome("nowhere", (*loaded.problems, problem), project)
        async with self.changes.begin():
            if expected is not None and expected != self.revisions.tag(project):
                return Outcome("changed", (), project, revision=self.revisions.current(project))
            found = tuple(conflicts(self._live.table, project, where, override=override))
            if found:
                exists = all(problem.severity == "warning" for problem in found)
                return Outcome("exists" if exists else "conflict", found, project)
            revision = Revision(
                number=await self.revisions.next_number(project),
                serial=self.changes.index.serial + 1,
                at=int(time.time()),
                user=author.user[:NAME_LENGTH],
                via=author.via,
                note=author.note[:NOTE_LENGTH],
                digest=digest,
                hosts=tuple(dict.fromkeys(one.host for one in where)),
            )
            place, converged = await self._store(files, project, loaded.problems, where, revision)
            # Some conflicts, for example about the default version, only appear in the table.
            late = [each for each in self._catalog.conflicts if each.file == place]
        hosts = ", ".join(revision.hosts)
        log.info("deployed %s on %s (r%d)", project.title, hosts, revision.number)
        problems = (*loaded.problems, *renamed(late, place, label))
        return Outcome("deployed", problems, project, where, revision, converged)

    async def undeploy(
        self,
        title: str,
        vhost: str = "",
        environments: Sequence[str] = (),
        *,
        copy: bool = False,
    ) -> bool:
        """Undeploy `<name>:<version>`, optionally from one host or some environments only.

        With `copy` only what was deployed goes, so that a folder or git serves its own version.
        Returns False if it is not deployed. Raises OSError or `UnusableError` if that fails.
        """
        host = host_name(vhost) if vhost else ""

        def removes(one: Placement) -> bool:
            there = not host or one.host == host
            return there and (not environments or one.environment in environments)

        async with self.changes.begin():
            index = self.changes.index
            present = [
                each for entry in index.entries if entry.title == title for each in entry.where
            ]
            raw = self._deployments.folder_projects()
            gone = {} if copy else raw
            for project in self._deployments.remaining(gone).values():
                if project.title == title:
                    present += placements(project.deployments, self._vhost_of)
            if not any(not host or one.host == host for one in present):
                return False
            if not any(map(removes, present)):
                return True  # none of these environments: nothing to do (spec: adapter-rest §5.2)
            hidden = []
            for name, project in gone.items():
                where = tuple(filter(removes, placements(project.deployments, self._vhost_of)))
                if project.title == title and where:
                    hidden.append(
                        HiddenProject(name, self._deployments.digests.get(name, ""), where)
                    )

            def kept(state: ApiState) -> bool:
                """Whether a folder or git still has the API: it may come back, blocked as it is."""
                return any(is_same_api(state, project) for project in raw.values())

            await self.changes.commit(index.undeployed(title, removes, hidden, kept))
        log.info("undeployed %s%s", title, f" from {host}" if host else "")
        return True

    async def _store(
        self,
        files: Mapping[str, bytes],
        project: ApiProject,
        problems: Sequence[Problem],
        where: tuple[Placement, ...],
        revision: Revision,
    ) -> tuple[str, bool]:
        """Store the files of the project as a zip and add it to the index.

        Returns its place, and whether all workers serve it.
        """
        file = await self.changes.in_thread(
            partial(self._deployment_store.store, files, project.title, revision.serial)
        )
        with self._deployments.expecting(file, project, problems):
            index = self.changes.index.deployed(file, project, where, revision)
            converged = await self.changes.commit(index, file)
        return f"{self._deployment_store.label}/{file}", converged
