"""The parts of one process that serve what API Manager says. Imported only where it is used.

Every worker reads the state from the folder of the cache and serves it. The first worker also
follows API Manager and writes the state.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.effects import Effects
from trio_gw.control_plane.requirements import require, tls_context
from trio_gw.control_plane.source import ControlPlaneSource
from trio_gw.control_plane.state_reader import StateReader, source_of
from trio_gw.control_plane.state_writer import StateWriter
from trio_gw.control_plane.status import ControlPlaneStatus, QueueStatus
from trio_gw.feed.origins import CONTROL_PLANE
from trio_gw.supervision.background import BackgroundTasks, TaskName

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from trio_gw.config.control_plane import ControlPlaneSettings
    from trio_gw.control_plane.acknowledgement import Acknowledgements
    from trio_gw.control_plane.follower import Follower
    from trio_gw.errors import Problem
    from trio_gw.feed.catalog import Catalog
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.keys import KeyRing
    from trio_gw.guard.revocations import Revocations
    from trio_gw.routing.live import Live


class ControlPlane:
    """The control plane of one process. `writer` is None in all workers but the first.

    `served` is set when a state is served, be it an earlier one.
    """

    def __init__(
        self,
        table: ControlPlaneSettings,
        folder: Path,
        tls: ssl.SSLContext,
        *,
        live: Live,
        catalog: Catalog,
        revocations: Revocations,
        blocklist: Blocklist,
        ring: KeyRing,
        follows: bool,
    ) -> None:
        self.tls = tls
        self.status = ControlPlaneStatus(table.url, table.environments, follows=follows)
        label = table.cache or "the cache of the control plane"
        artifacts = ArtifactFolder(folder / "artifacts")
        self._reader = StateReader(folder, source_of(table), label)
        self._effects = Effects(live, revocations, blocklist, ring, tls=tls)
        self._source = ControlPlaneSource(
            self._reader, artifacts, self._effects, catalog.publish, self.status
        )
        self.served: trio.Event = self._source.served
        self.writer: StateWriter | None = None
        self._acknowledgements: Acknowledgements | None = None
        if follows:
            self.writer = StateWriter(self._reader, artifacts, label)
            self.writer.on_problems = self._report
            self._follower = self._build_follower(table, self.writer)

    def zip_of(self, project: str) -> bytes | None:
        """Read the zip of a project by its name (`ControlPlaneSource.zip_of`). Blocks."""
        return self._source.zip_of(project)

    async def start(
        self, nursery: trio.Nursery, background: BackgroundTasks, catalog: Catalog
    ) -> None:
        """Start the tasks. Return when the state that the folder has is published."""
        start = background.start
        await nursery.start(partial(start, TaskName.CONTROL_PLANE_CACHE, self._reader.run))
        lost = partial(catalog.skip_origin, CONTROL_PLANE)
        await nursery.start(
            partial(start, TaskName.CONTROL_PLANE, self._source.run, on_give_up=lost)
        )
        nursery.start_soon(background.keep, TaskName.CONTROL_PLANE_EXPIRY, self._effects.run)
        if (writer := self.writer) is not None:
            await nursery.start(partial(start, TaskName.CONTROL_PLANE_WRITER, writer.run))
            nursery.start_soon(background.keep, TaskName.CONTROL_PLANE_EVENTS, self._follow)
        if (acknowledgements := self._acknowledgements) is not None:
            nursery.start_soon(background.keep, TaskName.ACKNOWLEDGEMENTS, acknowledgements.run)

    def _build_follower(self, table: ControlPlaneSettings, writer: StateWriter) -> Follower:
        # They import an HTTP client and a codec, which the other workers do not need.
        from trio_gw.control_plane.follower import Follower

        follower = Follower(table, self.tls, writer, self.status)
        if table.revision_updates:
            from trio_gw.control_plane.acknowledgement import QUEUE, Acknowledgements

            queue = self.status.queues.setdefault(QUEUE, QueueStatus())
            made = Acknowledgements(follower.send, writer.artifacts.read, queue)
            self._acknowledgements = made
            self._source.on_published = made.update
        return follower

    async def _follow(self) -> None:
        """Follow API Manager when this process may write the state."""
        assert self.writer is not None
        await self.writer.opened.wait()
        await self._follower.run()

    def _report(self, problems: tuple[Problem, ...]) -> None:
        self.status.cache_problems = problems


async def build_control_plane(
    table: ControlPlaneSettings,
    base: Path,
    folder: Path,
    *,
    live: Live,
    catalog: Catalog,
    revocations: Revocations,
    blocklist: Blocklist,
    ring: KeyRing,
    follows: bool,
) -> ControlPlane:
    """Build the control plane of one process. Raises `UnusableError`."""
    require(table.url)
    tls = await trio.to_thread.run_sync(partial(tls_context, table, base), abandon_on_cancel=True)
    return ControlPlane(
        table,
        folder,
        tls,
        live=live,
        catalog=catalog,
        revocations=revocations,
        blocklist=blocklist,
        ring=ring,
        follows=follows,
    )
