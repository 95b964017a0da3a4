"""Everything that the gateway knows from its control plane, as one value. Pure.

A change makes the next value without copying all rows. All workers go through the same changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from trio_gw.config import entitlements as rows_of
from trio_gw.config.entitlements import Change, Entitlements
from trio_gw.config.layered_map import LayeredMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Placed = tuple[str, str]  # environment, vhost
PART = 200  # rows or APIs in one part of a change


class Artifact(msgspec.Struct, frozen=True):
    """One revision of an API, and where it is served (spec: control-plane §3).

    `digest` is the hexadecimal SHA-256 of the zip with its project. `production` and `sandbox` are
    the URLs of backends that replace those of the project; empty: none.
    """

    uuid: str
    revision: str
    digest: str
    placements: tuple[Placed, ...] = ()
    organization: str = ""
    production: str = ""
    sandbox: str = ""


class StateChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of the state. `artifacts` are all those of the named APIs; none removes an API.

    `pulled_at` is the time of the pull that caused it, in epoch seconds; 0 for an event.
    """

    rows: Change = Change()
    artifacts: dict[str, tuple[Artifact, ...]] = {}
    pulled_at: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.rows or self.artifacts or self.pulled_at)

    @property
    def is_small(self) -> bool:
        """Whether it is one part, which is applied within some milliseconds."""
        return len(self.rows.removed) + len(self.rows.put) + len(self.artifacts) <= PART

    def parts(self) -> Iterator[StateChange]:
        """Yield small changes that have the same effect together, the time of the pull last."""
        removed, put = self.rows.removed, self.rows.put
        if self.is_small:
            yield self
            return
        for start in range(0, len(removed), PART):
            yield StateChange(Change(removed=removed[start : start + PART]))
        for start in range(0, len(put), PART):
            yield StateChange(Change(put[start : start + PART]))
        artifacts = list(self.artifacts.items())
        for start in range(0, len(artifacts), PART):
            yield StateChange(artifacts=dict(artifacts[start : start + PART]))
        if self.pulled_at:
            yield StateChange(pulled_at=self.pulled_at)


class ControlPlaneState(msgspec.Struct, frozen=True, eq=False):
    """The rows, and the artifacts of each API by its UUID.

    `pulled_at` is the time of the last complete pull, in epoch seconds; 0: there was none.
    """

    entitlements: Entitlements = rows_of.NOTHING
    artifacts: LayeredMap[str, tuple[Artifact, ...]] = LayeredMap()
    pulled_at: float = 0.0

    def apply(self, change: StateChange) -> ControlPlaneState:
        """Return the state after a change."""
        entitlements, artifacts = self.entitlements, self.artifacts
        if change.rows:
            entitlements = entitlements.apply(change.rows)
        if change.artifacts:
            put = {uuid: found for uuid, found in change.artifacts.items() if found}
            artifacts = artifacts.changed(put, change.artifacts.keys() - put.keys())
        return ControlPlaneState(entitlements, artifacts, change.pulled_at or self.pulled_at)

    def apply_all(self, changes: Iterable[StateChange]) -> ControlPlaneState:
        """Return the state after many changes; faster than one at a time. May be slow."""
        state = self
        for change in _joined(changes):
            state = state.apply(change)
        return state

    def as_change(self) -> StateChange:
        """Return the change that makes this state of an empty one."""
        rows = Change(tuple(self.entitlements.rows()))
        return StateChange(rows, dict(self.artifacts), self.pulled_at)

    def digests(self) -> set[str]:
        """Return the digests of all artifacts."""
        return {each.digest for found in self.artifacts.values() for each in found}


EMPTY_STATE = ControlPlaneState()


def state_of(
    entitlements: Entitlements, artifacts: Iterable[Artifact], pulled_at: float
) -> ControlPlaneState:
    """Make the state of a pull. Of two artifacts of an API on one vhost the last counts."""
    found: dict[str, tuple[Artifact, ...]] = {}
    for artifact in artifacts:
        found[artifact.uuid] = placed(found.get(artifact.uuid, ()), (artifact,))
    return ControlPlaneState(entitlements, LayeredMap(found), pulled_at)


def difference(before: ControlPlaneState, after: ControlPlaneState) -> StateChange:
    """Return the change that makes `after` of `before`; empty if they are equal."""
    rows = rows_of.difference(before.entitlements, after.entitlements)
    old, new = before.artifacts, after.artifacts
    artifacts: dict[str, tuple[Artifact, ...]] = {}
    if old is not new:
        artifacts = {uuid: () for uuid in old if uuid not in new}
        artifacts |= {uuid: found for uuid, found in new.items() if old.get(uuid) != found}
    pulled_at = after.pulled_at if after.pulled_at != before.pulled_at else 0.0
    return StateChange(rows, artifacts, pulled_at)


def placed(before: Iterable[Artifact], new: Iterable[Artifact]) -> tuple[Artifact, ...]:
    """Deploy artifacts of an API that is already served by `before` (spec: control-plane §3.1).

    A new artifact takes its vhosts with all environments there; its environments leave the other
    vhosts.
    """
    current = tuple(before)
    for artifact in new:
        environments = {environment for environment, _ in artifact.placements}
        vhosts = {vhost for _, vhost in artifact.placements}
        stay: list[Artifact] = []
        there = dict.fromkeys(artifact.placements)
        for old in current:
            others = [place for place in old.placements if place[0] not in environments]
            there |= dict.fromkeys(place for place in others if place[1] in vhosts)
            stay += _with(old, (place for place in others if place[1] not in vhosts))
        current = (*stay, *_with(artifact, there))
    return current


def withdrawn(before: Iterable[Artifact], environments: Iterable[str]) -> tuple[Artifact, ...]:
    """Remove an API from environments, on any vhost."""
    gone = set(environments)
    return tuple(
        one
        for each in before
        for one in _with(each, (place for place in each.placements if place[0] not in gone))
    )


def _with(artifact: Artifact, placements: Iterable[Placed]) -> list[Artifact]:
    """Return the artifact at these placements; nothing if there are none."""
    listed = tuple(placements)
    return [structs.replace(artifact, placements=listed)] if listed else []


def _joined(changes: Iterable[StateChange]) -> Iterator[StateChange]:
    """Join changes that only add rows with those before them."""
    removed: tuple[rows_of.Row, ...] = ()
    put: list[rows_of.Row] = []
    artifacts: dict[str, tuple[Artifact, ...]] = {}
    pulled_at = 0.0
    for change in changes:
        if change.rows.removed:
            yield StateChange(Change(tuple(put), removed))
            removed, put = change.rows.removed, []
        put += change.rows.put
        artifacts |= change.artifacts
        pulled_at = change.pulled_at or pulled_at
    yield StateChange(Change(tuple(put), removed), artifacts, pulled_at)
