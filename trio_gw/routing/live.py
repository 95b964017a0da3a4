"""The holder of the current route table, and of the current entitlements.

`Live` connects *feed*, which replaces the table, with *proxy*, which reads `live.table` once per
connection and keeps the route it found until the connection ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.config import entitlements

if TYPE_CHECKING:
    from trio_gw.config.entitlements import Entitlements
    from trio_gw.routing.table import RouteTable


class Live:
    """The current values. One assignment replaces each, so readers need no lock.

    `entitlements` are those of the control plane, empty without one. `entitled` is the event of
    their next change.
    """

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.entitlements = entitlements.NOTHING
        self.entitled = trio.Event()
        self.generation = 0
        self._changed = trio.Event()

    def entitle(self, current: Entitlements) -> None:
        """Make these the current entitlements and set `entitled`."""
        self.entitlements = current
        changed, self.entitled = self.entitled, trio.Event()
        changed.set()

    def swap(self, table: RouteTable) -> None:
        """Make `table` the current one and wake the tasks in `wait_changed`."""
        self.table = table
        self.generation += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @property
    def changed(self) -> trio.Event:
        """The event of the next swap."""
        return self._changed

    async def wait_changed(self) -> None:
        """Return after the next swap."""
        await self._changed.wait()
