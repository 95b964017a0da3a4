"""The source of APIs deployed over the REST API, and their effect on other sources.

Follows the index of the deployment store in the same way as `feed.folder_source` follows a folder.
Every worker does this, so the folder carries a deployment to all workers. The worker that changed
the index calls `refresh`; the others check it four times a second. Each zip is read and loaded
once, with the same code as the projects in `apis/`. The worker that received the upload has
already loaded it.

The projects of `apis/` and of a git repository pass through this module. A project deployed over
REST replaces the same API there, and an undeployed project is left out until its files change.
"""

from __future__ import annotations

import contextlib
import math
from collections import ChainMap
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import trio

from trio_gw.config.api import Deployment
from trio_gw.config.placement import placements
from trio_gw.errors import Problem, UnusableError, renamed
from trio_gw.feed import origins
from trio_gw.feed.deployment_index import DeploymentIndex
from trio_gw.feed.examine import examine
from trio_gw.feed.managed_states import managed
from trio_gw.feed.project_state import LoadResult
from trio_gw.feed.walk import access_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.feed.atomic_file import FileVersion
    from trio_gw.feed.deployment_index import HiddenProject, Where
    from trio_gw.feed.deployment_store import DeploymentStore
    from trio_gw.feed.folder_source import PublishSnapshot
    from trio_gw.feed.project_state import Snapshot

T = TypeVar("T")

POLL = 0.25  # seconds between two checks of the index
ATTEMPTS = 5  # reads of an index that is replaced during the read
RETRY = 5.0  # seconds until failed zips are loaded again


class _IndexReading(NamedTuple):
    """One reading of the folder; `entries` is None if the index is not usable."""

    version: FileVersion | None
    entries: DeploymentIndex | None
    results: dict[str, LoadResult]
    broken: tuple[Problem, ...]


class DeploymentSource:
    """The deployed projects, and those of other sources that they do not replace or hide.

    `vhost_of` maps environments to hosts; `publish` is the method of the catalog.
    """

    def __init__(
        self, store: DeploymentStore, publish: PublishSnapshot, vhost_of: Mapping[str, str]
    ) -> None:
        self.store = store
        self.index = DeploymentIndex()
        self.digests: Mapping[str, str] = {}
        self.broken: tuple[Problem, ...] = ()  # problems of the index itself
        self._publish = publish
        self._vhost_of = vhost_of
        self._version: FileVersion | None = None
        self._retry_at = math.inf
        self._refreshing = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._results: dict[str, LoadResult] = {}
        self._expected: dict[str, LoadResult] = {}
        self._others: dict[str, Snapshot] = {}  # snapshots of the other sources, by origin
        self._digests: dict[str, dict[str, str]] = {}
        self._published: dict[str, Snapshot] = {}
        self._hidden: dict[str, ApiProject] = {}  # as loaded when their digest matched

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the index until cancelled. Started when its projects have been published."""
        await self.refresh()
        task_status.started()
        while True:
            await trio.sleep(POLL)
            version = await self._in_thread(self._current_version)
            if version != self._version or trio.current_time() >= self._retry_at:
                await self.refresh()

    @contextlib.contextmanager
    def expecting(
        self, file: str, project: ApiProject, problems: Sequence[Problem]
    ) -> Iterator[None]:
        """Use this result for a zip of the next index, so that it is not loaded again.

        The project has been loaded already, under the name in `project.folder`.
        """
        place = f"{self.store.label}/{file}"
        here = msgspec.structs.replace(project, folder=place)
        found = renamed(problems, project.folder, place)
        self._expected = {file: LoadResult(here, found, maybe_incomplete=False)}
        try:
            yield
        finally:
            self._expected = {}

    async def refresh(self) -> None:
        """Read the current index and publish its projects."""
        async with self._refreshing:
            known = {name: each for name, each in self._results.items() if each.project}
            known = self._expected | known
            self._use(await self._in_thread(partial(self._read, known)))
            complete = not self.broken and all(each.project for each in self._results.values())
            self._retry_at = math.inf if complete else trio.current_time() + RETRY
        self.republish()

    def load(self) -> None:
        """Read the current index and publish its projects, without an event loop. Blocks."""
        self._use(self._read({}))
        self.republish()

    def _use(self, found: _IndexReading) -> None:
        self._version, self.broken = found.version, found.broken
        if found.entries is not None:
            self.index, self._results = found.entries, found.results

    def _read(self, known: Mapping[str, LoadResult]) -> _IndexReading:
        """Read the index and load its zips, except those in `known`. Blocks."""
        for _ in range(ATTEMPTS):
            version = self._current_version()
            try:
                index = self.store.read()
            except UnusableError as error:
                return _IndexReading(version, None, {}, error.problems)
            except OSError as error:
                what = f"cannot be read ({error.strerror})"
                problem = Problem(self.store.label, 0, 0, what, access_hint(error))
                return _IndexReading(version, None, {}, (problem,))
            results = {
                entry.file: known.get(entry.file) or self._load_zip(entry.file)
                for entry in index.entries
            }
            known = {name: each for name, each in results.items() if each.project}
            # If a zip is missing, a newer index may have replaced this one.
            if len(known) == len(results) or self._current_version() == version:
                break
        return _IndexReading(version, index, results, ())

    def _load_zip(self, file: str) -> LoadResult:
        store = self.store
        try:
            reading = examine(store.root, file, store.label, b"")
        except OSError:  # the folder itself is missing
            reading = None
        if reading is not None and reading.result is not None:
            return reading.result
        what = "is deployed, but the file is missing"
        hint = "restore the file, deploy the API again, or undeploy it"
        problem = Problem(f"{store.label}/{file}", 0, 0, what, hint)
        return LoadResult(None, (problem,), maybe_incomplete=True)

    def _current_version(self) -> FileVersion | None:
        try:
            return self.store.version()
        except OSError:
            return None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # The work only reads, so shutdown does not wait for a file system that hangs.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    # -- snapshots of the other sources --------------------------------------------------------

    def update_folder(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        """Take a snapshot of `apis/`, and publish those of its projects that are served."""
        self._others[origin] = projects, problems
        self.republish()

    def update_git(
        self,
        projects: Mapping[str, ApiProject],
        problems: tuple[Problem, ...],
        digests: Mapping[str, str],
    ) -> None:
        """Take a snapshot of the git repository, as `update_folder` and `identify` for `apis/`."""
        git = origins.GIT
        self._set_digests(git, {f"{git}/{name}": digest for name, digest in digests.items()})
        self.update_folder(
            git, {f"{git}/{name}": each for name, each in projects.items()}, problems
        )

    def identify(self, digests: Mapping[str, bytes]) -> None:
        """Take the digests of the files in `apis/`, by folder name; called before the snapshot."""
        self._set_digests("", {name: digest.hex() for name, digest in digests.items()})
        self.republish()

    def _set_digests(self, origin: str, digests: dict[str, str]) -> None:
        self._digests[origin] = digests
        self.digests = dict(ChainMap(*self._digests.values()))

    # -- publishing ----------------------------------------------------------------------------

    def republish(self) -> None:
        """Publish the served projects of all sources."""
        projects, problems = self.projects(self.index)
        self._publish_changed(origins.DEPLOYED, projects, (*self.broken, *problems))
        for origin, (found, faults) in self._others.items():
            self._publish_changed(origin, self.remaining(found), faults)

    def _publish_changed(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        """Publish a snapshot, with the states of the index, if it differs from the last one."""
        projects = managed(projects, self.index)
        if self._published.get(origin) != (projects, problems):
            self._published[origin] = projects, problems
            self._publish(origin, dict(projects), problems)

    def projects(self, index: DeploymentIndex) -> tuple[dict[str, ApiProject], tuple[Problem, ...]]:
        """Return the loaded projects of an index, deployed as it says, and all problems."""
        projects: dict[str, ApiProject] = {}
        problems: list[Problem] = []
        for entry in index.entries:
            result = self._results[entry.file]
            problems += result.problems
            if result.project is not None:
                projects[entry.file] = _deployed_at(result.project, entry.where)
        return projects, tuple(problems)

    def folder_projects(self) -> dict[str, ApiProject]:
        """Return the projects of `apis/` by folder name and of git as `git/…`, hidden or not."""
        return dict(ChainMap(*(projects for projects, _ in self._others.values())))

    def hides(self, hidden: HiddenProject) -> bool:
        """Return whether this entry still hides a project: its files have not changed.

        If the files have changed but are broken, the last good version stays in use, and that is
        the version that was undeployed.
        """
        folder = hidden.folder
        if self.digests.get(folder) == hidden.digest:
            return True
        known = self._hidden.get(folder)
        return known is not None and self.folder_projects().get(folder) is known

    def remaining(self, projects: Mapping[str, ApiProject]) -> dict[str, ApiProject]:
        """Return these projects without those that are undeployed or replaced."""
        gone: dict[str, Where] = {}
        for each in self.index.hidden:
            project = projects.get(each.folder)
            if project is not None and self.hides(each):
                self._hidden[each.folder] = project
                gone[each.folder] = each.where
        same: dict[tuple[str, str], set[str]] = {}  # organization and id → hosts
        titled: dict[tuple[str, str], set[str]] = {}  # organization and title → hosts
        for entry in self.index.entries:
            there = {placement.host for placement in entry.where}
            same.setdefault((entry.organization, entry.id), set()).update(there)
            titled.setdefault((entry.organization, entry.title), set()).update(there)
        found: dict[str, ApiProject] = {}
        for name, project in projects.items():
            hosts = same.get((project.organization, project.id), set()) | titled.get(
                (project.organization, project.title), set()
            )
            without = gone.get(name, ())
            if not (hosts or without):
                found[name] = project
                continue
            where = placements(project.deployments, self._vhost_of)
            left = [one for one in where if one.host not in hosts and one not in without]
            if left or not where:
                found[name] = _deployed_at(project, left) if left else project
        return found


def _deployed_at(project: ApiProject, where: Iterable[tuple[str, str]]) -> ApiProject:
    deployments = tuple(Deployment(environment, host.strip("[]")) for environment, host in where)
    return msgspec.structs.replace(project, deployments=deployments)
