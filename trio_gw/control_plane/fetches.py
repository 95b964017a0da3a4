"""What events announce, but do not contain, is fetched over REST: single APIs, and policies.

Fetches run beside each other, and one at a time for each API. What is wanted while its fetch is
under way is fetched again, because the answer may be older. spec: control-plane §6.2, §15.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from trio_gw.control_plane.pull import POLICIES, pull_api, pull_policies
from trio_gw.control_plane.reconcile import FetchedApi, FetchedPolicies
from trio_gw.control_plane.rest_client import Pauses
from trio_gw.control_plane.rest_faults import RestError
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from trio_gw.config.control_plane import ControlPlaneSettings
    from trio_gw.config.entitlements import PolicyLevel
    from trio_gw.control_plane.artifacts import ArtifactStore
    from trio_gw.control_plane.rest_client import RestClient

MAX_WANTED = 1000  # APIs; with more, everything is pulled
PARALLEL = 4
TRIES = 4  # of an API that was announced, but is not there yet


@dataclasses.dataclass
class _Wanted:
    """The environments of a wanted API, and the query for its row."""

    labels: set[str]
    which: dict[str, str] = dataclasses.field(default_factory=dict)


class Fetched(Protocol):
    """What takes the results."""

    async def take_fetched(self, found: FetchedApi | FetchedPolicies) -> None:
        """Apply what was fetched."""

    def fetch_failed(self, problems: Sequence[Problem], refused: str = "") -> None:
        """Note what could not be used, and the API or the level that was refused."""

    def want_pull(self) -> None:
        """Pull everything soon."""


class Fetches:
    """The fetches of one follower."""

    def __init__(
        self,
        client: RestClient,
        settings: ControlPlaneSettings,
        store: ArtifactStore,
        fetched: Fetched,
    ) -> None:
        self._client = client
        self._settings = settings
        self._store = store
        self._fetched = fetched
        self._apis: dict[str, _Wanted] = {}  # by UUID, in order
        self._levels: dict[PolicyLevel, None] = {}
        self._running: dict[str, Iterable[str]] = {}  # APIs with their environments, and levels
        self._changed = trio.Event()

    def want_api(
        self, uuid: str, labels: Iterable[str], context: str = "", version: str = ""
    ) -> None:
        """Fetch an API as it is in these environments. Its context and version may be known."""
        if uuid not in self._apis and len(self._apis) >= MAX_WANTED:
            self._apis.clear()
            self._fetched.want_pull()
        wanted = self._apis.setdefault(uuid, _Wanted(set()))
        wanted.labels.update(labels)
        if context and version:
            wanted.which = {"context": context, "version": version}
        self._changed.set()

    def repeat_api(self, uuid: str, labels: Iterable[str]) -> None:
        """Fetch an API again if a fetch of it is under way."""
        if uuid in self._running:
            self.want_api(uuid, labels)

    def repeat_all(self) -> None:
        """Fetch again what is being fetched: changes since then may not have been announced."""
        for name, labels in self._running.items():
            if labels:
                self.want_api(name, labels)
        self._levels |= dict.fromkeys(level for level in POLICIES if level in self._running)
        self._changed.set()

    def want_policies(self, level: PolicyLevel) -> None:
        """Fetch the policies of a level."""
        self._levels[level] = None
        self._changed.set()

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                for uuid in [uuid for uuid in self._apis if uuid not in self._running]:
                    if len(self._running) >= PARALLEL:
                        break
                    wanted = self._apis.pop(uuid)
                    self._start(nursery, uuid, partial(self._api, uuid, wanted), wanted.labels)
                for level in [level for level in self._levels if level not in self._running]:
                    del self._levels[level]
                    self._start(nursery, level, partial(self._policies, level))
                await self._changed.wait()

    def _start(
        self,
        nursery: trio.Nursery,
        name: str,
        work: Callable[[], Awaitable[None]],
        labels: Iterable[str] = (),
    ) -> None:
        async def run() -> None:
            try:
                await work()
            except RestError as error:
                what = f"{name}: {error.what}"
                problem = Problem(self._settings.url, 0, 0, what, error.hint)
                self._fetched.fetch_failed([problem], name)
                self._fetched.want_pull()  # which goes on trying
            finally:
                del self._running[name]
                self._changed.set()

        self._running[name] = labels
        nursery.start_soon(run)

    async def _api(self, uuid: str, wanted: _Wanted) -> None:
        """Fetch one API; repeated a few times if it is not there, then it is not deployed."""
        labels = tuple(sorted(wanted.labels))
        pauses = Pauses(self._settings.retry_interval / 4)
        for left in reversed(range(TRIES)):
            found = await pull_api(
                self._client, self._settings, self._store, uuid, labels, wanted.which
            )
            if found.artifacts or found.broken or not left:
                break
            await pauses.wait(trio.Event())
        fetched = FetchedApi(uuid, labels, found.artifacts, found.row, found.broken)
        await self._fetched.take_fetched(fetched)
        self._fetched.fetch_failed(found.problems)

    async def _policies(self, level: PolicyLevel) -> None:
        try:
            rows = await pull_policies(self._client, self._settings, self._store, level)
        except RestError:
            if level == "api":
                return  # not each API Manager has them
            raise
        await self._fetched.take_fetched(FetchedPolicies(level, rows))
