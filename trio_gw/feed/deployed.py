"""The source of what is deployed over the REST API, and what that means for `apis/`.

Follows the index of the depot, as `feed.folder` follows a folder: every worker does, so the
folder is what carries a deployment to all of them. The one that changed it says so (`refresh`);
the others look four times a second. Each zip is read and loaded once, with the code that loads
what lies in `apis/`; by the one that deployed it when it was uploaded.

What `apis/` and a git repository publish passes through here: a project that is deployed over REST
takes the place of the same API there, and one that was undeployed is left out until its files
change.
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
from trio_gw.feed.index import Index
from trio_gw.feed.ledger import Verdict
from trio_gw.feed.tracker import examine
from trio_gw.feed.walk import remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from trio_gw.config.api import ApiProject
    from trio_gw.feed.depot import Depot, State
    from trio_gw.feed.folder import Publish
    from trio_gw.feed.index import Hidden, Where
    from trio_gw.feed.ledger import Snapshot

T = TypeVar("T")

POLL = 0.25  # seconds between two looks at the index
TRIES = 5  # readings of an index that is replaced meanwhile
AGAIN = 5.0  # seconds until what could not be loaded is tried again
ORIGIN = "deployed"
GIT = "git"


class _Found(NamedTuple):
    """One reading of the folder; `entries` is its index, None if that cannot be used."""

    state: State | None
    entries: Index | None
    verdicts: dict[str, Verdict]
    broken: tuple[Problem, ...]


class Deployed:
    """The deployed projects, and the folder's as far as they are not replaced or hidden.

    `vhost_of` maps environments to hosts; `publish` is the catalog's.
    """

    def __init__(self, depot: Depot, publish: Publish, vhost_of: Mapping[str, str]) -> None:
        self.depot = depot
        self.index = Index()
        self.digests: Mapping[str, str] = {}
        self.broken: tuple[Problem, ...] = ()  # the index itself cannot be used
        self._publish = publish
        self._vhost_of = vhost_of
        self._state: State | None = None
        self._again_at = math.inf
        self._refreshing = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._verdicts: dict[str, Verdict] = {}
        self._expected: dict[str, Verdict] = {}
        self._others: dict[str, Snapshot] = {}  # what the other sources publish, by origin
        self._digests: dict[str, dict[str, str]] = {}
        self._published: dict[str, Snapshot] = {}
        self._hidden: dict[str, ApiProject] = {}  # as they were when their digest was right

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the index until cancelled. Started when what it names has been published."""
        await self.refresh()
        task_status.started()
        while True:
            await trio.sleep(POLL)
            state = await self._in_thread(self._look)
            if state != self._state or trio.current_time() >= self._again_at:
                await self.refresh()

    @contextlib.contextmanager
    def expecting(
        self, file: str, project: ApiProject, problems: Sequence[Problem]
    ) -> Iterator[None]:
        """Know what a zip came to that the index will name, so that it is not loaded again.

        It has been loaded already, under the name that stands in `project.folder`.
        """
        place = f"{self.depot.label}/{file}"
        here = msgspec.structs.replace(project, folder=place)
        told = renamed(problems, project.folder, place)
        self._expected = {file: Verdict(here, told, hasty=False)}
        try:
            yield
        finally:
            self._expected = {}

    async def refresh(self) -> None:
        """Read the index as it is now, and publish what it says."""
        async with self._refreshing:
            known = {name: each for name, each in self._verdicts.items() if each.project}
            known = self._expected | known
            self._use(await self._in_thread(partial(self._read, known)))
            whole = not self.broken and all(each.project for each in self._verdicts.values())
            self._again_at = math.inf if whole else trio.current_time() + AGAIN
        self.republish()

    def load(self) -> None:
        """Read the index as it is now, outside of any event loop. Blocks."""
        self._use(self._read({}))
        self.republish()

    def _use(self, found: _Found) -> None:
        self._state, self.broken = found.state, found.broken
        if found.entries is not None:
            self.index, self._verdicts = found.entries, found.verdicts

    def _read(self, known: Mapping[str, Verdict]) -> _Found:
        """Read the index and load what it names, as far as it is not known. Blocks."""
        for _ in range(TRIES):
            state = self._look()
            try:
                index = self.depot.read()
            except UnusableError as error:
                return _Found(state, None, {}, error.problems)
            except OSError as error:
                what = f"cannot be read ({error.strerror})"
                problem = Problem(self.depot.label, 0, 0, what, remedy(error))
                return _Found(state, None, {}, (problem,))
            verdicts = {
                entry.file: known.get(entry.file) or self._examined(entry.file)
                for entry in index.entries
            }
            known = {name: each for name, each in verdicts.items() if each.project}
            # A zip that is gone may be one that a newer index does not name.
            if len(known) == len(verdicts) or self._look() == state:
                break
        return _Found(state, index, verdicts, ())

    def _examined(self, file: str) -> Verdict:
        depot = self.depot
        try:
            reading = examine(depot.root, file, depot.label, b"")
        except OSError:  # the folder itself is gone
            reading = None
        if reading is not None and reading.verdict is not None:
            return reading.verdict
        what = "is deployed, but the file is gone"
        hint = "put it back, deploy the API again, or undeploy it"
        return Verdict(None, (Problem(f"{depot.label}/{file}", 0, 0, what, hint),), hasty=True)

    def _look(self) -> State | None:
        try:
            return self.depot.state()
        except OSError:
            return None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # It only reads: at the end nobody waits for a file system that hangs.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    # -- what apis/ publishes ------------------------------------------------------------------

    def folder(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        """Take a snapshot of `apis/`, and publish what of it is served."""
        self._others[origin] = projects, problems
        self.republish()

    def git(
        self,
        projects: Mapping[str, ApiProject],
        problems: tuple[Problem, ...],
        digests: Mapping[str, str],
    ) -> None:
        """Take a snapshot of the git repository, as `folder` and `identify` do for `apis/`."""
        self._know(GIT, {f"{GIT}/{name}": digest for name, digest in digests.items()})
        self.folder(GIT, {f"{GIT}/{name}": each for name, each in projects.items()}, problems)

    def identify(self, digests: Mapping[str, bytes]) -> None:
        """Take the digests of the files in `apis/`, by folder name; before their snapshot."""
        self._know("", {name: digest.hex() for name, digest in digests.items()})
        self.republish()

    def _know(self, origin: str, digests: dict[str, str]) -> None:
        self._digests[origin] = digests
        self.digests = dict(ChainMap(*self._digests.values()))

    # -- what is published ---------------------------------------------------------------------

    def republish(self) -> None:
        """Publish what is served of both."""
        projects, problems = self.projects(self.index)
        self._speak(ORIGIN, projects, (*self.broken, *problems))
        for origin, (found, faults) in self._others.items():
            self._speak(origin, self.remaining(found), faults)

    def _speak(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        """Publish, unless it is what was published last."""
        if self._published.get(origin) != (projects, problems):
            self._published[origin] = projects, problems
            self._publish(origin, dict(projects), problems)

    def projects(self, index: Index) -> tuple[dict[str, ApiProject], tuple[Problem, ...]]:
        """Give the projects that an index names, as far as they are loaded, where it says."""
        projects: dict[str, ApiProject] = {}
        problems: list[Problem] = []
        for entry in index.entries:
            verdict = self._verdicts[entry.file]
            problems += verdict.problems
            if verdict.project is not None:
                projects[entry.file] = _placed(verdict.project, entry.where)
        return projects, tuple(problems)

    def folder_projects(self) -> dict[str, ApiProject]:
        """Give the projects of `apis/` by folder name, those of git as `git/…`; hidden or not."""
        return dict(ChainMap(*(projects for projects, _ in self._others.values())))

    def hides(self, hidden: Hidden) -> bool:
        """Tell whether this still hides a project: its files are those that were undeployed.

        When they are others, but broken, the good version that is kept is the one undeployed.
        """
        folder = hidden.folder
        if self.digests.get(folder) == hidden.digest:
            return True
        known = self._hidden.get(folder)
        return known is not None and self.folder_projects().get(folder) is known

    def remaining(self, projects: Mapping[str, ApiProject]) -> dict[str, ApiProject]:
        """Leave out of these what was undeployed, or is replaced by what is deployed."""
        gone: dict[str, Where] = {}
        for each in self.index.hidden:
            project = projects.get(each.folder)
            if project is not None and self.hides(each):
                self._hidden[each.folder] = project
                gone[each.folder] = each.where
        same: dict[tuple[str, str], set[str]] = {}  # organization and id, or title → hosts
        titled: dict[tuple[str, str], set[str]] = {}
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
                found[name] = _placed(project, left) if left else project
        return found


def _placed(project: ApiProject, where: Iterable[tuple[str, str]]) -> ApiProject:
    deployments = tuple(Deployment(environment, host.strip("[]")) for environment, host in where)
    return msgspec.structs.replace(project, deployments=deployments)
