"""The holder of the current route table.

`Live` connects *feed*, which replaces the table, with *proxy*, which reads `live.table` once per
connection and keeps the route it found until the connection ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_gw.routing.table import RouteTable


class Live:
    """The current table. One assignment replaces it, so readers need no lock."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.generation = 0
        self._changed = trio.Event()

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
