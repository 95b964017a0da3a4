"""The parts of one process that work with the Traffic Manager. Imported only where it is used.

Every worker has its own: it publishes the frames of its own connections, and applies the decisions
that all workers receive with the entitlements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.control_plane.throttling.publisher import Publisher
from trio_gw.proxy.throttling import Throttling
from trio_gw.supervision.background import BackgroundTasks, TaskName
from trio_gw.telemetry.frame_queue import FrameQueue

if TYPE_CHECKING:
    import ssl

    import trio

    from trio_gw.config.control_plane import ThrottlingSettings
    from trio_gw.control_plane.status import ControlPlaneStatus
    from trio_gw.proxy.services import Services
    from trio_gw.routing.live import Live


class TrafficManager:
    """Events of frames, and decisions. `tls` is for the logins at the event receivers."""

    def __init__(
        self,
        table: ThrottlingSettings,
        tls: ssl.SSLContext,
        status: ControlPlaneStatus,
        live: Live,
        services: Services,
    ) -> None:
        frames = FrameQueue()
        self._throttling = Throttling(table, live, services.limiter_factory, frames)
        self._publisher = Publisher(table, frames, tls, status)

    def attach(self, services: Services) -> Services:
        """Return the services with throttling. It is the last observer, so that taps add up."""
        observers = (*services.observers, self._throttling)
        return services._replace(throttling=self._throttling, observers=observers)

    def start(self, nursery: trio.Nursery, background: BackgroundTasks) -> None:
        """Start the tasks."""
        keep = background.keep
        nursery.start_soon(keep, TaskName.DECISIONS, self._throttling.run)
        nursery.start_soon(keep, TaskName.FRAME_EVENTS, self._publisher.run)

    async def flush(self) -> None:
        """Send what is still queued, within a few seconds."""
        await self._publisher.flush()
