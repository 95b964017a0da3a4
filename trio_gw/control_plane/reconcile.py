"""What an event changes in the current state, and what the state is after a pull. Pure.

Events carry the time of what they announce, and so do many rows. An event that is older than what
is known of its object changes nothing, so that events may come late, twice, or in another order,
before a pull or after it. spec: control-plane §6, §13.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from trio_gw.config.entitlements import (
    ApiRow,
    ApplicationRow,
    BlockRow,
    Change,
    DecisionRow,
    KeyManagerRow,
    KeyMappingRow,
    KeyTemplateRow,
    PolicyRow,
    RevokedRow,
    SubscriptionRow,
    expired,
    is_over,
    key_of,
)
from trio_gw.control_plane.events import LifecycleEvent, RowsEvent, UndeployEvent
from trio_gw.control_plane.state import Artifact, StateChange, placed, withdrawn
from trio_gw.control_plane.throttling.decision import admitted, with_decisions

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from trio_gw.config.entitlements import Entitlements, PolicyLevel, Row
    from trio_gw.control_plane.state import ControlPlaneState

MAX_ROWS = 500_000  # of a kind; events add no more
MAX_KEYS = 20_000  # objects whose last event is remembered
AHEAD = 24 * 3600 * 1000  # ms; a time further in the future than this has no meaning


class FetchedApi(msgspec.Struct, frozen=True):
    """What API Manager answered about one API in these environments.

    No artifacts: it is not deployed there. `broken`: it is, but cannot be read.
    """

    uuid: str
    labels: tuple[str, ...]
    artifacts: tuple[Artifact, ...] = ()
    row: ApiRow | None = None
    broken: bool = False


class FetchedPolicies(msgspec.Struct, frozen=True):
    """All policies of a level."""

    level: PolicyLevel
    rows: tuple[PolicyRow, ...]


_FIELDS: Mapping[type, str] = {
    ApiRow: "apis",
    ApplicationRow: "applications",
    BlockRow: "blocks",
    DecisionRow: "decisions",
    KeyManagerRow: "key_managers",
    KeyMappingRow: "key_mappings",
    KeyTemplateRow: "key_templates",
    PolicyRow: "policies",
    RevokedRow: "revoked",
    SubscriptionRow: "subscriptions",
}

Applied = RowsEvent | UndeployEvent | LifecycleEvent | FetchedApi | FetchedPolicies


class EventOrder:
    """The time of the last event of each object; the oldest are forgotten."""

    def __init__(self) -> None:
        self._latest: OrderedDict[Hashable, int] = OrderedDict()

    def stale(self, key: Hashable, at: int, known: int, now: int) -> bool:
        """Return whether something newer is known than an event of this time; all in ms.

        `known` is the time of the current row. Without a time an event is never stale.
        """
        latest = self._latest.get(key, 0)
        return 0 < at < max(latest, known if known <= now + AHEAD else 0)

    def record(self, key: Hashable, at: int, now: int) -> None:
        """Remember the time of an event."""
        if 0 < at <= now + AHEAD:
            self._latest[key] = max(at, self._latest.get(key, 0))
            self._latest.move_to_end(key)
            if len(self._latest) > MAX_KEYS:
                self._latest.popitem(last=False)


def is_stale(state: ControlPlaneState, event: Applied, order: EventOrder, now: int) -> bool:
    """Return whether something newer is known than an event. Otherwise its time is remembered."""
    keys: list[tuple[Hashable, int]] = []
    at = 0
    if isinstance(event, RowsEvent) and event.key is not None:
        at = event.at
        rows = (*event.change.put, *event.change.removed)
        keys = [(event.key, max((_time(state, row) for row in rows), default=0))]
    elif isinstance(event, UndeployEvent):
        at = event.at
        keys = [(deployment_key(event.uuid, label), 0) for label in event.labels]
    elif isinstance(event, LifecycleEvent):
        at, keys = event.at, [(("lifecycle", event.uuid), 0)]
    if any(order.stale(key, at, known, now) for key, known in keys):
        return True
    for key, _ in keys:
        order.record(key, at, now)
    return False


def deployment_key(uuid: str, label: str) -> tuple[str, str, str]:
    """Return the key of an API in an environment, for `EventOrder`."""
    return ("deployment", uuid, label)


def _find(current: Entitlements, row: Row) -> Row | None:
    """Return the current row with the key of a row."""
    table: Mapping[Hashable, Row] = getattr(current, _FIELDS[type(row)])
    return table.get(key_of(row))


def _time(state: ControlPlaneState, row: Row) -> int:
    current = _find(state.entitlements, row)
    return getattr(current, "timestamp", 0) if current is not None else 0


def effect(state: ControlPlaneState, event: Applied, now: int) -> StateChange:
    """Return what an event changes; nothing, if the state is so already. `now` in ms."""
    if isinstance(event, RowsEvent):
        return StateChange(_rows(state.entitlements, event, now))
    if isinstance(event, LifecycleEvent):
        row = state.entitlements.apis.get(event.uuid)
        if row is None or row.status == event.status:
            return StateChange()
        return StateChange(Change((structs.replace(row, status=event.status),)))
    if isinstance(event, UndeployEvent):
        return _deployed(state, FetchedApi(event.uuid, event.labels))
    if isinstance(event, FetchedPolicies):
        rows = state.entitlements.policies
        listed = {row.id for row in event.rows}
        gone = (row for row in rows.values() if row.level == event.level and row.id not in listed)
        put = (row for row in event.rows if rows.get((row.level, row.id)) != row)
        return StateChange(Change(tuple(put), tuple(gone)))
    return _deployed(state, event)


def _rows(current: Entitlements, event: RowsEvent, now: int) -> Change:
    if event.kind == "decision":
        return admitted(current, event.change, now)
    put: list[Row] = []
    for row in event.change.put:
        known: Any = _find(current, row)
        if known is None and len(getattr(current, _FIELDS[type(row)])) >= MAX_ROWS:
            continue
        if isinstance(row, RevokedRow) and is_over(row, now):
            continue
        if isinstance(row, ApplicationRow) and known is not None and not row.attributes:
            row = structs.replace(row, attributes=known.attributes)
        elif isinstance(row, PolicyRow) and known is not None and known.quota == row.quota:
            row = structs.replace(row, limit=known.limit, per=known.per)
        if row != known:
            put.append(row)
    removed = [row for row in event.change.removed if _find(current, row) is not None]
    return Change(tuple(put), tuple(removed))


def _deployed(state: ControlPlaneState, found: FetchedApi) -> StateChange:
    """Return the change for an API whose deployments in some environments are known."""
    before = state.artifacts.get(found.uuid, ())
    after = before
    if not found.broken:
        there = {place[0] for each in found.artifacts for place in each.placements}
        gone = [label for label in found.labels if label not in there]
        after = placed(withdrawn(before, gone), found.artifacts)
    return StateChange(_row_of_api(state, found), {found.uuid: after} if after != before else {})


def _row_of_api(state: ControlPlaneState, found: FetchedApi) -> Change:
    old = state.entitlements.apis.get(found.uuid)
    new = found.row or old
    if new is None:
        return Change()
    labels = set(old.labels if old else ())
    if found.row is not None:
        labels = (labels - {*found.labels}) | {*found.row.labels}
    elif not (found.artifacts or found.broken):
        labels -= {*found.labels}
    new = structs.replace(new, labels=tuple(sorted(labels)))
    if labels:
        return Change() if new == old else Change((new,))
    return Change() if old is None else Change(removed=(old,))


def after_pull(
    merged: ControlPlaneState,
    current: ControlPlaneState,
    events: Iterable[Applied],
    order: EventOrder,
    now: int,
) -> ControlPlaneState:
    """Return the state after a pull, with the events that came while it was under way.

    Decisions, which REST does not list, and revocations, which are final, stay until they expire.
    REST lists revocations for ever.
    """
    kept = tuple(
        row
        for row in current.entitlements.revoked.values()
        if row.expires_at > 0
        and not is_over(row, now)
        and row.token not in merged.entitlements.revoked
    )
    rows = merged.entitlements.apply(expired(merged.entitlements, now)).apply(Change(kept))
    entitlements = with_decisions(rows, current.entitlements, now)
    state = structs.replace(merged, entitlements=entitlements)
    for event in events:
        if not is_stale(state, event, order, now):
            state = state.apply(effect(state, event, now))
    return state
