"""The index of the folder `deployed/`: everything deployed over the REST API, as one value.

No I/O, no clock. The index is one JSON file that is replaced as a whole, so a deployment changes
all its hosts at once or none. An entry is one zip file and where it is served. If an API is
deployed again on some of its hosts, the others keep the old zip. A project of `apis/` that was
undeployed is kept as *hidden*, with the digest of its files: when the files change, it is served
again. spec: adapter-rest §4.2, §4.3, §5.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.placement import Placement, host_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_gw.config.api import ApiProject

Where = tuple[Placement, ...]


class DeployedZip(msgspec.Struct, frozen=True):
    """One zip file, its API, and where it is served; `where` is never empty."""

    file: str
    organization: str
    id: str
    title: str
    where: Where


class HiddenProject(msgspec.Struct, frozen=True):
    """Where a project of `apis/` is not served as long as its files have this digest."""

    folder: str
    digest: str
    where: Where


class DeploymentIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All deployments, the latest last. `serial` counts the changes."""

    serial: int = 0
    entries: tuple[DeployedZip, ...] = ()
    hidden: tuple[HiddenProject, ...] = ()

    def deployed(self, file: str, project: ApiProject, where: Where) -> DeploymentIndex:
        """Return the index with this zip served at `where`; it replaces its API there.

        All environments of a host are replaced together (spec: adapter-rest §4.3).
        """
        hosts = {placement.host for placement in where}

        def stays(entry: DeployedZip, placement: Placement) -> bool:
            return placement.host not in hosts or not is_same_api(entry, project)

        entry = DeployedZip(file, project.organization, project.id, project.title, where)
        return DeploymentIndex(self.serial + 1, (*self._filtered(stays), entry), self.hidden)

    def undeployed(
        self,
        title: str,
        removes: Callable[[Placement], bool],
        hidden: Iterable[HiddenProject],
    ) -> DeploymentIndex:
        """Return the index without the placements to remove, and with these projects hidden."""

        def stays(entry: DeployedZip, placement: Placement) -> bool:
            return entry.title != title or not removes(placement)

        merged = {each.folder: each for each in self.hidden}
        for each in hidden:
            before = merged.get(each.folder)
            where = before.where if before is not None and before.digest == each.digest else ()
            merged[each.folder] = HiddenProject(
                each.folder, each.digest, tuple(dict.fromkeys((*where, *each.where)))
            )
        return DeploymentIndex(self.serial + 1, self._filtered(stays), tuple(merged.values()))

    def pruned(self, hides: Callable[[HiddenProject], bool]) -> DeploymentIndex:
        """Return the index without hidden projects that no longer hide anything."""
        return DeploymentIndex(self.serial, self.entries, tuple(filter(hides, self.hidden)))

    def _filtered(self, stays: Callable[[DeployedZip, Placement], bool]) -> tuple[DeployedZip, ...]:
        return tuple(
            msgspec.structs.replace(entry, where=where)
            for entry in self.entries
            if (where := tuple(one for one in entry.where if stays(entry, one)))
        )


def is_same_api(entry: DeployedZip, project: ApiProject) -> bool:
    """Return whether both are the same API, maybe with different files."""
    return (entry.organization, entry.id) == (project.organization, project.id)


def encode(index: DeploymentIndex) -> bytes:
    """Return an index as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"


def decode(data: bytes) -> DeploymentIndex:
    """Read an index. Raises ValueError with a description of the fault."""
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
