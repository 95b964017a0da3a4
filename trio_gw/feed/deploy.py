"""Deploying an uploaded project, and undeploying: checked, stored, and live when it returns.

Called by the admin API. An upload is read and loaded by the code that reads `apis/`; what is
wrong with it comes back as problems, and nothing has changed. Then the index of the depot is
replaced (`depot`), and only when the table that follows from it is live, in every worker, the
outcome is told. spec: adapter-rest §4, §5.2.
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
from trio_gw.feed.index import Hidden

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.config.project import LoadedProject
    from trio_gw.feed.catalog import Catalog
    from trio_gw.feed.deployed import Deployed
    from trio_gw.feed.index import Index
    from trio_gw.routing.table import Live

log = logging.getLogger("trio_gw.deploy")

T = TypeVar("T")

PATIENCE = 4.0  # seconds to wait for another change; apictl gives up after 10 altogether
QUEUE = 20.0  # seconds to wait for other uploads to be unpacked and checked
NAME_LENGTH = 120  # characters of an upload's name in problems


class Outcome(NamedTuple):
    """How an attempt ended. `nowhere`: it is fine, but none of its environments is known here."""

    status: Literal["deployed", "nowhere", "exists", "conflict", "broken"]
    problems: tuple[Problem, ...] = ()
    project: ApiProject | None = None
    where: tuple[Placement, ...] = ()


class Served(NamedTuple):
    """One API on one host: an item of the list of APIs."""

    host: str
    project: ApiProject
    environments: tuple[str, ...]


class Deployer:
    """Changes what is deployed. `settle` returns when all workers serve the same table."""

    def __init__(
        self,
        deployed: Deployed,
        catalog: Catalog,
        live: Live,
        vhost_of: Mapping[str, str],
        settle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._deployed = deployed
        self._depot = deployed.depot
        self._catalog = catalog
        self._live = live
        self._vhost_of = vhost_of
        self._settle = settle
        self._turn = trio.Lock()
        self._loading = trio.Lock()  # one upload's files are in memory at a time
        self._limiter = trio.CapacityLimiter(2)  # a deployment, and an undeployment beside it

    def served(self) -> list[Served]:
        """List the APIs of the current table, one for each host."""
        seen: dict[tuple[str, str], Served] = {}
        for host, _, api in self._live.table.bases():
            if (host, api.folder) not in seen:
                where = placements(api.deployments, self._vhost_of)
                names = tuple(one.environment for one in where if one.host == host)
                seen[host, api.folder] = Served(host, api, names)
        return list(seen.values())

    async def deploy(self, upload: BinaryIO, name: str, *, override: bool) -> Outcome:
        """Deploy the zip in this file; `name` stands for it in problems."""
        label = "".join(c if c.isprintable() else "?" for c in name)[:NAME_LENGTH] or "upload"
        try:
            async with _soon(self._loading, QUEUE):
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
            what = f"deployed nowhere: it names none of the environments here ({known})"
            hint = "name one of them in deployment_environments.yaml, or add [[environments]]"
            problem = Problem(label, 0, 0, what, hint, "warning")
            return Outcome("nowhere", (*loaded.problems, problem), project)
        async with self._changing():
            problems = tuple(self._clashes(project, where, override=override))
            if problems:
                exists = all(problem.severity == "warning" for problem in problems)
                return Outcome("exists" if exists else "conflict", problems, project)
            place = await self._store(files, project, loaded.problems, where)
            # What another holds, such as the default version, is only seen in the table.
            conflicts = [each for each in self._catalog.conflicts if each.file == place]
        hosts = ", ".join(dict.fromkeys(one.host for one in where))
        log.info("deployed %s on %s", project.title, hosts)
        problems = (*loaded.problems, *renamed(conflicts, place, label))
        return Outcome("deployed", problems, project, where)

    async def undeploy(self, title: str, vhost: str = "", environments: Sequence[str] = ()) -> bool:
        """Undeploy `<name>:<version>`, perhaps from one host or some environments only.

        Returns False if it is not there. Raises OSError or `UnusableError` when it cannot be.
        """
        host = host_name(vhost) if vhost else ""

        def goes(one: Placement) -> bool:
            there = not host or one.host == host
            return there and (not environments or one.environment in environments)

        async with self._changing():
            index = self._deployed.index
            present = [
                each for entry in index.entries if entry.title == title for each in entry.where
            ]
            raw = self._deployed.folder_projects()
            for project in self._deployed.remaining(raw).values():
                if project.title == title:
                    present += placements(project.deployments, self._vhost_of)
            if not any(not host or one.host == host for one in present):
                return False
            if not any(map(goes, present)):
                return True  # none of these environments: nothing to do (spec: adapter-rest §5.2)
            hidden = []
            for name, project in raw.items():
                where = tuple(filter(goes, placements(project.deployments, self._vhost_of)))
                if project.title == title and where:
                    hidden.append(Hidden(name, self._deployed.digests.get(name, ""), where))
            await self._commit(index.undeployed(title, goes, hidden))
        log.info("undeployed %s%s", title, f" from {host}" if host else "")
        return True

    def _clashes(
        self, project: ApiProject, where: Sequence[Placement], *, override: bool
    ) -> Iterator[Problem]:
        """Find what stands in the way; a warning if only the same API does."""
        hosts = {one.host for one in where}
        told = set()
        for host, base, api in self._live.table.bases():
            if host not in hosts or (host, api.folder) in told:
                continue
            same_id = api.id == project.id
            if same_id and api.organization == project.organization:
                told.add((host, api.folder))
                if not override:
                    what = f"{project.title} is deployed on {host} already"
                    hint = "deploy it with override, or undeploy it first"
                    yield Problem(project.folder, 0, 0, what, hint, "warning")
                continue
            if base == project.base_path.rstrip("/"):
                what = f"base path {base or '/'} on {host} belongs to {api.title}"
                hint = "change the context or the version, or undeploy that API"
            elif same_id:
                what = f"its id on {host} is that of {api.title}"
                hint = "give it another `id`, or undeploy that API"
            elif (api.organization, api.title) == (project.organization, project.title):
                what = f"there is another {api.title} on {host}, with the id {api.id}"
                hint = "give it that `id`, or another name or version"
            else:
                continue
            told.add((host, api.folder))
            yield Problem(project.folder, 0, 0, what, hint)

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Have the index to ourselves, as it is now.

        Raises OSError or `UnusableError` when it cannot be had.
        """
        async with _soon(self._turn, PATIENCE):
            lock = self._depot.locked(PATIENCE)
            await self._in_thread(lock.__enter__)
            try:
                await self._deployed.refresh()
                if self._deployed.broken:
                    raise UnusableError(self._deployed.broken)
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
        """Make the project's files a zip, and the index one that names it; say where it is."""
        index = self._deployed.index
        file = await self._in_thread(
            partial(self._depot.store, files, project.title, index.serial + 1)
        )
        with self._deployed.expecting(file, project, problems):
            await self._commit(index.deployed(file, project, where), file)
        return f"{self._depot.label}/{file}"

    async def _commit(self, index: Index, file: str = "") -> None:
        """Replace the index, and wait until it is live everywhere.

        `file` is a zip that only the new index names.
        """
        before = self._deployed.index
        index = index.pruned(self._deployed.hides)
        try:
            await self._in_thread(partial(self._depot.commit, index))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._in_thread(partial(self._depot.discard, [file] if file else []))
            raise
        await self._deployed.refresh()
        await self._catalog.applied()
        if self._settle is not None:
            with trio.move_on_after(PATIENCE) as waited:
                await self._settle()
            if waited.cancelled_caught:
                log.warning("change %d: not all workers serve it yet", index.serial)
        left = {entry.file for entry in index.entries}
        gone = [entry.file for entry in before.entries if entry.file not in left]
        if gone:
            await self._in_thread(partial(self._depot.discard, gone))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


@contextlib.asynccontextmanager
async def _soon(lock: trio.Lock, patience: float) -> AsyncIterator[None]:
    """Hold a lock. Raises TimeoutError if it is not to be had within so many seconds."""
    with trio.move_on_after(patience) as waited:
        await lock.acquire()
    if waited.cancelled_caught:
        raise TimeoutError
    try:
        yield
    finally:
        lock.release()


def _failed(label: str, error: OSError) -> Problem:
    if isinstance(error, TimeoutError):
        return Problem(label, 0, 0, "other deployments take too long", "try again")
    what = f"cannot be stored ({os.strerror(error.errno or 0)})"
    return Problem(label, 0, 0, what, "see to the folder `deployed` of the gateway")
