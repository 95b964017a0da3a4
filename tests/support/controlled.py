"""A gateway that API Manager drives: a fake of its REST interface, and a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.gateway import RunningGateway, start_gateway
from trio_gw.app import control_plane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.apim import FakeApiManager
    from trio_gw.app.control_plane import ControlPlane
    from trio_gw.control_plane.status import ControlPlaneStatus

OPEN: dict[str, Any] = {"/*": {"publish": {}, "subscribe": {}, "x-auth-type": "None"}}
CHAT = "6c1f0e2e-0001-4c5e-9a10-000000000001"
PATIENCE = 60  # seconds


class ControlledGateway:
    """A running gateway with the control plane, and ways to wait for what it serves."""

    def __init__(self, gateway: RunningGateway, status: ControlPlaneStatus) -> None:
        self.gateway = gateway
        self.status = status

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds on what the gateway serves or its status shows."""
        live = self.gateway.running.live
        with trio.fail_after(PATIENCE):
            while not condition():
                # The status has no event of its own.
                with trio.move_on_after(0.05):
                    await live.changed.wait()

    async def current(self, pulls: int = 1) -> None:
        """Wait until events are received and so many pulls have ended."""
        await self.until(lambda: self.status.current and self.status.pulls >= pulls)

    async def answers(self, status: int, path: str, host: str = "localhost") -> None:
        """Make handshakes until this is their status, each after a change."""
        live = self.gateway.running.live
        with trio.fail_after(PATIENCE):
            while True:
                changed, entitled = live.changed, live.entitled
                if await self.gateway.status(path, host=host, token="") == status:
                    return
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_first, changed, nursery.cancel_scope)
                    nursery.start_soon(_first, entitled, nursery.cancel_scope)


async def start_controlled(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, *events: str, **more: Any
) -> ControlledGateway:
    """Start a gateway for this API Manager and these brokers."""
    table = apim.settings(base, events=list(events), **more)
    planes: list[ControlPlane] = []
    build = control_plane.build_control_plane

    async def built(*arguments: Any, **more: Any) -> ControlPlane:
        planes.append(await build(*arguments, **more))
        return planes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_plane, "build_control_plane", built)
        gateway = await start_gateway(nursery, base, control_plane=table)
    return ControlledGateway(gateway, planes[0].status)


async def _first(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
