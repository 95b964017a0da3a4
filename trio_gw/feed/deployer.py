"""Deploy an uploaded project, or undeploy one: checked, stored, and live when the call returns.

Called by the admin API. An upload is read and loaded by the same code as projects in `apis/`. If
it has problems, they are returned and nothing changes. Otherwise the index in the deployment store
is replaced. The result is returned when the resulting table is live in every worker.
spec: adapter-rest §4, §5.2.
"""

from __future__ import annotations

import contextlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, TypeVar

import trio

from trio_gw.config.placement import Placement, host_name, placements
from trio_gw.config.project import load
from trio_gw.errors import Problem, UnusableError, has_errors, renamed
from trio_gw.feed import archive
from trio_gw.feed.deployment_index import HiddenProject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.project import LoadedProject
    from trio_gw.feed.catalog import Catalog
    from trio_gw.feed.deployment_index import DeploymentIndex
    from trio_gw.feed.deployment_source import DeploymentSource
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw.deploy")

T = TypeVar("T")

CHANGE_TIMEOUT = 4.0  # seconds to wait for another change; apictl gives up after 10 in total
UPLOAD_TIMEOUT = 20.0  # seconds to wait until other uploads are unpacked and checked
NAME_LENGTH = 120  # characters of the name of an upload in problems


class Outcome(NamedTuple):
    """The result of a deployment. `nowhere`: no problem, but its environments are unknown here."""

    status: Literal["deployed", "nowhere", "exists", "conflict", "broken"]
    problems: tuple[Problem, ...] = ()
    project: ApiProject | None = None
    where: tuple[Placement, ...] = ()


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
        self._deployments = deployments
        self._deployment_store = deployments.store
        self._catalog = catalog
        self._live = live
        self._vhost_of = vhost_of
        self._converge = converge
        self._changes = trio.Lock()
        self._loading = trio.Lock()  # only one upload is in memory at a time
        self._limiter = trio.CapacityLimiter(2)  # one deployment and one undeployment at a time

    def served(self) -> list[Served]:
        """List the APIs of the current table, one item per API and host."""
        seen: dict[tuple[str, str], Served] = {}
        for host, _, api in self._live.table.bases():
            if (host, api.folder) not in seen:
                where = placements(api.deployments, self._vhost_of)
                names = tuple(one.environment for one in where if one.host == host)
                seen[host, api.folder] = Served(host, api, names)
        return list(seen.values())

    async def deploy(self, upload: BinaryIO, name: str, *, override: bool) -> Outcome:
        """Deploy the zip in this file; `name` is its name in problems."""
        label = "".join(c if c.isprintable() else "?" for c in name)[:NAME_LENGTH] or "upload"
        try:
            async with _acquired(self._loading, UPLOAD_TIMEOUT):
                return await self._deploy(upload, label, override=override)
        except UnusableError as error:
            return Outcome("broken", error.problems)
        except OSError as error:
            return Outcome("broken", (_failed(label, error),))

    async def _deploy(self, upload: BinaryIO, label: str, *, override: bool) -> Outcome:
        def opened() -> tuple[Mapping[str, bytes], LoadedProject]:
            files = archive.unpack(upload, label)
            return files, load(files, label, os.environ)

        files, loaded = await self._in_thread(opened)
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
        async with self._changing():
            problems = tuple(self._conflicts(project, where, override=override))
            if problems:
                exists = all(problem.severity == "warning" for problem in problems)
                return Outcome("exists" if exists else "conflict", problems, project)
            place = await self._store(files, project, loaded.problems, where)
            # Some conflicts, for example about the default version, only appear in the table.
            conflicts = [each for each in self._catalog.conflicts if each.file == place]
        hosts = ", ".join(dict.fromkeys(one.host for one in where))
        log.info("deployed %s on %s", project.title, hosts)
        problems = (*loaded.problems, *renamed(conflicts, place, label))
        return Outcome("deployed", problems, project, where)

    async def undeploy(self, title: str, vhost: str = "", environments: Sequence[str] = ()) -> bool:
        """Undeploy `<name>:<version>`, optionally from one host or some environments only.

        Returns False if it is not deployed. Raises OSError or `UnusableError` if that fails.
        """
        host = host_name(vhost) if vhost else ""

        def removes(one: Placement) -> bool:
            there = not host or one.host == host
            return there and (not environments or one.environment in environments)

        async with self._changing():
            index = self._deployments.index
            present = [
                each for entry in index.entries if entry.title == title for each in entry.where
            ]
            raw = self._deployments.folder_projects()
            for project in self._deployments.remaining(raw).values():
                if project.title == title:
                    present += placements(project.deployments, self._vhost_of)
            if not any(not host or one.host == host for one in present):
                return False
            if not any(map(removes, present)):
                return True  # none of these environments: nothing to do (spec: adapter-rest §5.2)
            hidden = []
            for name, project in raw.items():
                where = tuple(filter(removes, placements(project.deployments, self._vhost_of)))
                if project.title == title and where:
                    hidden.append(
                        HiddenProject(name, self._deployments.digests.get(name, ""), where)
                    )
            await self._commit(index.undeployed(title, removes, hidden))
        log.info("undeployed %s%s", title, f" from {host}" if host else "")
        return True

    def _conflicts(
        self, project: ApiProject, where: Sequence[Placement], *, override: bool
    ) -> Iterator[Problem]:
        """Find conflicts with deployed APIs; a warning for the same API, otherwise an error."""
        hosts = {one.host for one in where}
        reported = set()
        for host, base, api in self._live.table.bases():
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

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Hold the lock for changing the index, after reading its current state.

        Raises OSError or `UnusableError` if that fails.
        """
        async with _acquired(self._changes, CHANGE_TIMEOUT):
            lock = self._deployment_store.locked(CHANGE_TIMEOUT)
            await self._in_thread(lock.__enter__)
            try:
                await self._deployments.refresh()
                if self._deployments.broken:
                    raise UnusableError(self._deployments.broken)
                await self._catalog.applied()
                yield
            finally:
                lock.__exit__(None, None, None)

    async def _store(
        self,
        files: Mapping[str, bytes],
        project: ApiProject,
        problems: Sequence[Problem],
        where: tuple[Placement, ...],
    ) -> str:
        """Store the files of the project as a zip and add it to the index; return its place."""
        index = self._deployments.index
        file = await self._in_thread(
            partial(self._deployment_store.store, files, project.title, index.serial + 1)
        )
        with self._deployments.expecting(file, project, problems):
            await self._commit(index.deployed(file, project, where), file)
        return f"{self._deployment_store.label}/{file}"

    async def _commit(self, index: DeploymentIndex, file: str = "") -> None:
        """Replace the index, and wait until it is live in all workers.

        `file` is a zip that only the new index lists.
        """
        before = self._deployments.index
        index = index.pruned(self._deployments.hides)
        try:
            await self._in_thread(partial(self._deployment_store.commit, index))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._in_thread(
                    partial(self._deployment_store.discard, [file] if file else [])
                )
            raise
        await self._deployments.refresh()
        await self._catalog.applied()
        if self._converge is not None:
            with trio.move_on_after(CHANGE_TIMEOUT) as waited:
                await self._converge()
            if waited.cancelled_caught:
                log.warning("deployment change %d is not live in all workers yet", index.serial)
        left = {entry.file for entry in index.entries}
        gone = [entry.file for entry in before.entries if entry.file not in left]
        if gone:
            await self._in_thread(partial(self._deployment_store.discard, gone))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


@contextlib.asynccontextmanager
async def _acquired(lock: trio.Lock, timeout: float) -> AsyncIterator[None]:
    """Hold a lock. Raises TimeoutError if another task holds it for longer than `timeout`."""
    with trio.move_on_after(timeout) as waited:
        await lock.acquire()
    if waited.cancelled_caught:
        raise TimeoutError
    try:
        yield
    finally:
        lock.release()


def _failed(label: str, error: OSError) -> Problem:
    if isinstance(error, TimeoutError):
        return Problem(label, 0, 0, "timed out waiting for other deployments", "try again")
    what = f"cannot be stored ({os.strerror(error.errno or 0)})"
    return Problem(label, 0, 0, what, "check the folder `deployed` of the gateway")
