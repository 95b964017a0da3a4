"""Ends open connections that lose their entitlement: their subscription, their key or their API.

Runs as a background task beside those of `sweeper`. After a change of the entitlements it looks at
all sessions, but compares only those with the entitlements that the changed rows concern.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

import trio

from trio_gw.config.entitlements import (
    ApiRow,
    ApplicationRow,
    KeyMappingRow,
    SubscriptionRow,
)
from trio_gw.errors import CloseCode
from trio_gw.guard.entitlement import Denial, find, is_blocked
from trio_gw.proxy.sessions import BackgroundEnds
from trio_gw.proxy.sweeper import END_WITHIN, PAUSE, SLICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.entitlements import Entitlements, Row
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.routing.live import Live, Upcoming

log = logging.getLogger("trio_gw.sessions")

COMPARED = 50  # sessions to compare with the entitlements before other tasks run: about 1 ms
LARGE = 1000  # changed rows; after more, every session is compared


class EntitledSessions:
    """Ends the sessions of one process that the entitlements do not permit any more.

    `follow_policies` is called after each change, so that open connections follow policies, too.
    """

    def __init__(self, sessions: Sessions, live: Live, follow_policies: Callable[[], None]) -> None:
        self._sessions = sessions
        self._live = live
        self._follow_policies = follow_policies
        self._upcoming = live.upcoming

    async def run(self) -> NoReturn:
        """End them after each change; never returns."""
        # Every session at first: a task that failed may have missed a change.
        concerned = _Concerned(everything=True)
        async with trio.open_nursery() as nursery:
            ends = BackgroundEnds(self._sessions, nursery, END_WITHIN)
            while True:
                if concerned:
                    for denial, some in (await self._lost(concerned, ends)).items():
                        log.info("ending %d connections: %s", len(some), denial.value)
                        ends.end(some, CloseCode.POLICY, denial.value)
                    await trio.sleep(PAUSE)
                await self._upcoming.happened.wait()
                concerned = _Concerned()
                while self._upcoming.happened.is_set():
                    concerned.add(self._upcoming)
                    self._upcoming = self._upcoming.following
                self._follow_policies()

    async def _lost(
        self, concerned: _Concerned, ends: BackgroundEnds
    ) -> dict[Denial, list[Session]]:
        """Find the sessions to end, by reason; other tasks may run in between."""
        lost: dict[Denial, list[Session]] = {}
        compared = 0
        for place, session in enumerate(self._sessions, 1):
            if place % SLICE == 0:
                await trio.lowlevel.checkpoint()
            if session in ends or session.ending is not None or session not in concerned:
                continue
            compared += 1
            if compared % COMPARED == 0:
                await trio.lowlevel.checkpoint()
            denial = _denial(self._live.entitlements, session)
            if denial is not None:
                lost.setdefault(denial, []).append(session)
        return lost


class _Concerned:
    """The sessions that changed rows concern, by what the rows are keyed by."""

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything
        self._apis: set[str] = set()
        self._applications: set[str] = set()
        self._keys: set[tuple[str, str]] = set()

    def add(self, upcoming: Upcoming) -> None:
        """Add a change that has happened."""
        change, before = upcoming.change, upcoming.before
        if change is None or len(change.put) + len(change.removed) > LARGE:
            self._everything = True
            return
        for row in (*change.put, *change.removed):
            self._add(row)
            # Of a removed row only the key counts, and a row may move to another application.
            if isinstance(row, SubscriptionRow) and (old := before.subscriptions.get(row.id)):
                self._add(old)

    def _add(self, row: Row) -> None:
        if isinstance(row, SubscriptionRow):
            self._applications.add(row.application_uuid)
        elif isinstance(row, ApplicationRow):
            self._applications.add(row.uuid)
        elif isinstance(row, KeyMappingRow):
            self._keys.add((row.consumer_key, row.key_manager))
        elif isinstance(row, ApiRow):
            self._apis.add(row.uuid)

    def __bool__(self) -> bool:
        return bool(self._everything or self._apis or self._applications or self._keys)

    def __contains__(self, session: Session) -> bool:
        route, caller = session.route, session.caller
        if route is None or caller is None:
            return False
        return self._everything or (
            route.api.id in self._apis
            or (
                caller.entitled
                and (
                    caller.application.uuid in self._applications
                    or (caller.consumer_key, caller.issuer_name) in self._keys
                )
            )
        )


def _denial(entitlements: Entitlements, session: Session) -> Denial | None:
    """Return why a session must end; None if it may stay.

    A session whose API is not known any more stays: `sweeper.evict` decides about these.
    """
    route, caller = session.route, session.caller
    assert route is not None
    assert caller is not None
    if caller.entitled:
        key = caller.consumer_key, caller.issuer_name
        found = find(entitlements, *key, route.api.id, issued_at=caller.issued_at)
        if isinstance(found, Denial) and found is not Denial.NO_API:
            return found
    return Denial.API_BLOCKED if is_blocked(entitlements, route.api.id) else None
