"""The holder of the current route table, and of the current entitlements.

`Live` connects *feed*, which replaces the table, with *proxy*, which reads `live.table` once per
connection and keeps the route it found until the connection ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.config import entitlements

if TYPE_CHECKING:
    from trio_gw.config.entitlements import Change, Entitlements
    from trio_gw.routing.table import RouteTable


class Upcoming:
    """The next change of the entitlements: its rows when it has happened, and the change after it.

    So a reader that is late misses none, and changes that all readers have seen are freed. A
    `change` of None may be any change. `before` are the entitlements that it changed.
    """

    __slots__ = ("before", "change", "following", "happened")

    def __init__(self) -> None:
        self.happened = trio.Event()
        self.before = entitlements.NOTHING
        self.change: Change | None = None
        self.following: Upcoming = self


class Live:
    """The current values. One assignment replaces each, so readers need no lock.

    `entitlements` are those of the control plane, empty without one. `upcoming` is their next
    change, and `entitled` the event of it.
    """

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.entitlements = entitlements.NOTHING
        self.upcoming = Upcoming()
        self.generation = 0
        self._changed = trio.Event()

    @property
    def entitled(self) -> trio.Event:
        """The event of the next change of the entitlements."""
        return self.upcoming.happened

    def entitle(self, current: Entitlements, change: Change | None = None) -> None:
        """Make these the current entitlements and set `entitled`.

        `change` has at least the rows that changed; without it, any row may have changed.
        """
        now, self.upcoming = self.upcoming, Upcoming()
        now.before, self.entitlements = self.entitlements, current
        now.change, now.following = change, self.upcoming
        now.happened.set()

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
