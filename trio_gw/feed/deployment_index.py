"""The index of the folder `deployed/`: everything that was deployed or set here, as one value.

No I/O, no clock. The index is one JSON file that is replaced as a whole, so a deployment changes
all its hosts at once or none. An entry is one zip file and where it is served. If an API is
deployed again on some of its hosts, the others keep the old zip. A project of `apis/` that was
undeployed is kept as *hidden*, with the digest of its files: when the files change, it is served
again. A state of the lifecycle belongs to an API, whichever source its files come from.
spec: adapter-rest §4.2, §4.3, §5.2; portal §2.8, §2.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from trio_gw.config.lifecycle import Managed, State
from trio_gw.config.placement import Placement, host_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_gw.config.api import ApiProject

Where = tuple[Placement, ...]

FORMAT = 2  # the latest; 1, which older gateways read, as long as no state is set
MOST_STATES = 10_000


class NewerError(ValueError):
    """A newer gateway wrote the index."""


class Revision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One deployment of an API: the how many-th, when (epoch seconds), by whom, and of what.

    `via` is the door: the portal, or the admin API, which apictl and `trio-gw` use. `digest` is
    that of the files. `hosts` are those at the deployment.
    """

    number: int = 0
    serial: int = 0
    at: int = 0
    user: str = ""
    via: Literal["", "portal", "api"] = ""
    note: str = ""
    digest: str = ""
    hosts: tuple[str, ...] = ()


BEFORE_REVISIONS = Revision()  # of a zip that was deployed before revisions were kept


class DeployedZip(msgspec.Struct, frozen=True):
    """One zip file, its API, and where it is served; `where` is never empty."""

    file: str
    organization: str
    id: str
    title: str
    where: Where
    revision: Revision = BEFORE_REVISIONS


class HiddenProject(msgspec.Struct, frozen=True):
    """Where a project of `apis/` is not served as long as its files have this digest."""

    folder: str
    digest: str
    where: Where


class ApiState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of an API that was set here, by whom, and when (epoch seconds)."""

    organization: str
    id: str
    title: str
    state: State
    at: int
    user: str = ""
    successor: str = ""
    sunset: int = 0

    @property
    def managed(self) -> Managed:
        """What acts."""
        return Managed(self.state, self.at, self.sunset, self.successor)


class DeploymentIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All deployments, the latest last, and all states. `serial` counts the changes."""

    format: int = 1
    serial: int = 0
    entries: tuple[DeployedZip, ...] = ()
    hidden: tuple[HiddenProject, ...] = ()
    states: tuple[ApiState, ...] = ()

    def deployed(
        self, file: str, project: ApiProject, where: Where, revision: Revision = BEFORE_REVISIONS
    ) -> DeploymentIndex:
        """Return the index with this zip served at `where`; it replaces its API there.

        All environments of a host are replaced together (spec: adapter-rest §4.3). A retired API
        begins anew.
        """
        hosts = {placement.host for placement in where}

        def stays(entry: DeployedZip, placement: Placement) -> bool:
            return placement.host not in hosts or not is_same_api(entry, project)

        entry = DeployedZip(file, project.organization, project.id, project.title, where, revision)
        states = tuple(
            msgspec.structs.replace(
                each, state="CREATED", at=revision.at, user=revision.user, successor="", sunset=0
            )
            if each.state == "RETIRED" and is_same_api(each, project)
            else each
            for each in self.states
        )
        return msgspec.structs.replace(
            self, serial=self.serial + 1, entries=(*self._filtered(stays), entry), states=states
        )

    def undeployed(
        self,
        title: str,
        removes: Callable[[Placement], bool],
        hidden: Iterable[HiddenProject],
        kept: Callable[[ApiState], bool] = lambda _: False,
    ) -> DeploymentIndex:
        """Return the index without the placements to remove, and with these projects hidden.

        An API that is undeployed everywhere loses its state, unless it is `kept`.
        """

        def stays(entry: DeployedZip, placement: Placement) -> bool:
            return entry.title != title or not removes(placement)

        merged = {each.folder: each for each in self.hidden}
        for each in hidden:
            before = merged.get(each.folder)
            where = before.where if before is not None and before.digest == each.digest else ()
            merged[each.folder] = HiddenProject(
                each.folder, each.digest, tuple(dict.fromkeys((*where, *each.where)))
            )
        entries = self._filtered(stays)
        there = {(entry.organization, entry.id) for entry in entries}
        were = {(entry.organization, entry.id) for entry in self.entries} - there
        states = tuple(
            each for each in self.states if (each.organization, each.id) not in were or kept(each)
        )
        return msgspec.structs.replace(
            self,
            serial=self.serial + 1,
            entries=entries,
            hidden=tuple(merged.values()),
            states=states,
        )

    def with_state(self, state: ApiState) -> DeploymentIndex:
        """Return the index with this state of its API; the oldest are dropped beyond the limit."""
        others = (each for each in self.states if not is_same_api(each, state))
        states = (*others, state)[-MOST_STATES:]
        return msgspec.structs.replace(self, serial=self.serial + 1, states=states)

    def pruned(self, hides: Callable[[HiddenProject], bool]) -> DeploymentIndex:
        """Return the index without hidden projects that no longer hide anything."""
        return msgspec.structs.replace(self, hidden=tuple(filter(hides, self.hidden)))

    def entries_of(self, organization: str, api_id: str) -> list[DeployedZip]:
        """List the zips of an API, the latest revision first."""
        found = [
            each for each in self.entries if (each.organization, each.id) == (organization, api_id)
        ]
        return sorted(found, key=lambda each: each.revision.number, reverse=True)

    def state_of(self, organization: str, api_id: str) -> ApiState | None:
        """Return the state that was set for an API."""
        for each in self.states:
            if (each.organization, each.id) == (organization, api_id):
                return each
        return None

    def _filtered(self, stays: Callable[[DeployedZip, Placement], bool]) -> tuple[DeployedZip, ...]:
        return tuple(
            msgspec.structs.replace(entry, where=where)
            for entry in self.entries
            if (where := tuple(one for one in entry.where if stays(entry, one)))
        )


def is_same_api(entry: DeployedZip | ApiState, project: ApiProject | ApiState) -> bool:
    """Return whether both are the same API, maybe with different files."""
    return (entry.organization, entry.id) == (project.organization, project.id)


def encode(index: DeploymentIndex) -> bytes:
    """Return an index as indented JSON. Without states an older gateway can read it, too."""
    value: dict[str, object] = {
        "serial": index.serial,
        "entries": index.entries,
        "hidden": index.hidden,
    }
    if index.states:
        value = {"format": FORMAT, **value, "states": index.states}
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


class _Marker(msgspec.Struct):
    format: int = 1


def decode(data: bytes) -> DeploymentIndex:
    """Read an index. Raises ValueError with a description of the fault."""
    if (newer := msgspec.json.decode(data, type=_Marker).format) > FORMAT:
        raise NewerError(f"was written by a newer gateway: format {newer}, not {FORMAT}")
    index = msgspec.json.decode(data, type=DeploymentIndex)
    for entry in index.entries:
        name = entry.file
        if "/" in name or "\0" in name or name.startswith(".") or not name.endswith(".zip"):
            raise ValueError(f"`file` is not the name of a zip: {name[:80]!r}")
    where = [one for entry in index.entries for one in entry.where]
    where += [one for each in index.hidden for one in each.where]
    for placement in where:
        if not placement.host or placement.host != host_name(placement.host.strip("[]")):
            raise ValueError(f"not a host in lower case: {placement.host[:80]!r}")
    return index
