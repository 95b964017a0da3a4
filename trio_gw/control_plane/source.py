"""The source of one worker: serves the state that its reader follows.

Rows go to the parts of the process at once (`effects`). The projects of changed APIs, and only
those, are loaded in a thread and published to the catalog: they are an origin of their own, after
deployments over the REST API and before git and `apis/`. The catalog gives what two origins claim
to the more important one, so the same API in `apis/` gives way without more.
"""

from __future__ import annotations

import datetime
import logging
import math
import time
from typing import TYPE_CHECKING, TypeVar

import trio

from trio_gw.config.entitlements import ApiRow
from trio_gw.control_plane.artifact_loading import NO_API, LoadedApi, load_api
from trio_gw.control_plane.state import EMPTY_STATE, difference
from trio_gw.errors import has_errors
from trio_gw.feed.catalog import TimeSlices
from trio_gw.feed.origins import CONTROL_PLANE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from trio_gw.control_plane.artifact_folder import ArtifactFolder
    from trio_gw.control_plane.effects import Effects
    from trio_gw.control_plane.state import ControlPlaneState, StateChange
    from trio_gw.control_plane.state_reader import StateReader, Taken
    from trio_gw.control_plane.status import ControlPlaneStatus
    from trio_gw.feed.folder_source import PublishSnapshot

log = logging.getLogger("trio_gw.control_plane")

T = TypeVar("T")

BATCH = 0.5  # seconds after which the projects loaded so far are published
RETRY = 5.0  # seconds until a zip that could not be read is read again
TURN = 16  # changes that are applied before other tasks run, or
ROWS = 100  # rows of them: some milliseconds


class ControlPlaneSource:
    """Serves what the reader knows. `served` is set when a state is published as a whole.

    `on_published` is called with each such state, and the UUIDs of the APIs in it that have errors.
    APIs whose zip could not be read are tried again every few seconds.
    """

    def __init__(
        self,
        reader: StateReader,
        artifacts: ArtifactFolder,
        effects: Effects,
        publish: PublishSnapshot,
        status: ControlPlaneStatus,
    ) -> None:
        self.served = trio.Event()
        self.on_published: Callable[[ControlPlaneState, Collection[str]], None] = _nothing
        self._reader = reader
        self._artifacts = artifacts
        self._effects = effects
        self._publish = publish
        self._status = status
        self._seen: ControlPlaneState = EMPTY_STATE
        self._apis: dict[str, LoadedApi] = {}
        self._changed: set[str] = set()  # UUIDs of APIs to load
        self._wake = trio.Event()
        self._retry_at = math.inf
        self._limiter = trio.CapacityLimiter(1)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started when the state that was known at the start is served."""
        # Also after a failure: what the reader has, and this source has not applied.
        await self._apply(self._reader.take()._replace(changes=None))
        known = self._seen.pulled_at
        while self._changed:
            await self._load()
        self._publish_all()
        if known and not self._status.pulls:
            self._status.cached(known)
        if known and self._status.follows:
            when = datetime.datetime.fromtimestamp(int(known), datetime.UTC).isoformat()
            log.warning(
                "serving the last known state, of %s: API Manager has not answered yet", when
            )
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_loaded)
            while True:
                await self._reader.wait_changed()
                await self._apply(self._reader.take())

    def zip_of(self, project: str) -> bytes | None:
        """Read the zip of a project by its name; None if there is none. Blocks.

        Raises OSError, ValueError if it is damaged.
        """
        for api in list(self._apis.values()):
            if (digest := api.zips.get(project)) is not None:
                return self._artifacts.read(digest)
        return None

    # -- rows ----------------------------------------------------------------------------------

    async def _apply(self, taken: Taken) -> None:
        """Apply changes of rows, and note which APIs changed."""
        changes = taken.changes
        if changes is None:
            before = self._seen
            changes = [await self._in_thread(lambda: difference(before, taken.state))]
        rows = 0
        for number, change in enumerate(changes, 1):
            before = self._seen
            after = taken.state if number == len(changes) else before.apply(change)
            if change.rows:
                self._effects.apply(before.entitlements, after.entitlements, change.rows)
            self._seen = after
            self._note(change)
            rows += len(change.rows.put) + len(change.rows.removed)
            if number % TURN == 0 or rows >= ROWS:
                rows = 0
                await trio.lowlevel.checkpoint()
        self._count()

    def _note(self, change: StateChange) -> None:
        changed = set(change.artifacts)
        for row in (*change.rows.put, *change.rows.removed):
            if isinstance(row, ApiRow) and row.uuid in self._seen.artifacts:
                changed.add(row.uuid)
        if changed or change.pulled_at:
            self._changed |= changed
            self._wake.set()

    def _count(self) -> None:
        rows = self._seen.entitlements
        self._status.served = {
            "apis": len(self._seen.artifacts),
            "applications": len(rows.applications),
            "key_mappings": len(rows.key_mappings),
            "subscriptions": len(rows.subscriptions),
            "policies": len(rows.policies),
            "key_managers": len(rows.key_managers),
            "revoked": len(rows.revoked),
            "blocks": len(rows.blocks),
        }

    # -- projects ------------------------------------------------------------------------------

    async def _keep_loaded(self) -> None:
        while True:
            with trio.move_on_at(self._retry_at):
                await self._wake.wait()
            if trio.current_time() >= self._retry_at:
                self._changed |= {uuid for uuid, api in self._apis.items() if api.incomplete}
            self._wake = trio.Event()
            if self._changed:
                await self._load()
                self._publish_all()
            else:  # only a pull that changed nothing
                self._tell()

    async def _load(self) -> None:
        """Load changed APIs for half a second; the others stay in `_changed`."""
        state, changed = self._seen, self._changed
        self._changed = set()
        loaded: dict[str, LoadedApi] = {}
        try:
            loaded = await self._in_thread(lambda: self._load_some(state, sorted(changed)))
        finally:
            self._changed |= changed - loaded.keys()
            if self._changed:
                self._wake.set()
        for uuid, api in loaded.items():
            if api is NO_API:
                self._apis.pop(uuid, None)
            else:
                self._apis[uuid] = api
        incomplete = any(api.incomplete for api in self._apis.values())
        self._retry_at = trio.current_time() + RETRY if incomplete else math.inf

    def _load_some(
        self, state: ControlPlaneState, changed: Collection[str]
    ) -> dict[str, LoadedApi]:
        """Load APIs, until all are loaded or it has taken long. In a thread."""
        pause, until = TimeSlices().pause, time.monotonic() + BATCH
        found: dict[str, LoadedApi] = {}
        for uuid in changed:
            artifacts = state.artifacts.get(uuid, ())
            row = state.entitlements.apis.get(uuid)
            before = self._apis.get(uuid, NO_API)
            api = NO_API
            if artifacts:
                api = load_api(self._artifacts, uuid, artifacts, row, before)
            found[uuid] = api
            pause()
            if time.monotonic() > until:
                break
        return found

    def _publish_all(self) -> None:
        projects = {name: one for api in self._apis.values() for name, one in api.projects.items()}
        problems = tuple(problem for api in self._apis.values() for problem in api.problems)
        self._publish(CONTROL_PLANE, projects, problems)
        self._tell()

    def _tell(self) -> None:
        """Report that the current state is published, if all of it is."""
        if self._seen.pulled_at and not self._changed:
            self.served.set()
            broken = {uuid for uuid, api in self._apis.items() if has_errors(api.problems)}
            self.on_published(self._seen, broken)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


def _nothing(state: ControlPlaneState, broken: Collection[str], /) -> None:
    """Do nothing."""
