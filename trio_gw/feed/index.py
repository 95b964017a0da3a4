"""What is deployed over the REST API, as one value: the index of the folder `deployed/`.

No I/O, no clock. The index is written as one JSON file that is replaced whole, so whatever a
deployment changes, on however many hosts, it changes at once or not at all. An entry is one zip
and where it is served; a redeployment on some of the hosts of an API leaves the old zip on the
others. What was undeployed although it lies in `apis/` is kept as *hidden*, with the digest of
its files: when they change it is served again. spec: adapter-rest §4.2, §4.3, §5.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.placement import Placement, host_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_gw.config.api import ApiProject

Where = tuple[Placement, ...]


class Entry(msgspec.Struct, frozen=True):
    """One zip of the folder, whose API it is, and where that is served; never nowhere."""

    file: str
    organization: str
    id: str
    title: str
    where: Where


class Hidden(msgspec.Struct, frozen=True):
    """Where a project of `apis/` is not served, as long as its files have this digest."""

    folder: str
    digest: str
    where: Where


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is deployed, the latest last. `serial` counts the changes."""

    serial: int = 0
    entries: tuple[Entry, ...] = ()
    hidden: tuple[Hidden, ...] = ()

    def deployed(self, file: str, project: ApiProject, where: Where) -> Index:
        """Return the index with this zip served here, in place of what its API had there.

        The environments of a host are replaced as a whole (spec: adapter-rest §4.3).
        """
        hosts = {placement.host for placement in where}

        def stays(entry: Entry, placement: Placement) -> bool:
            return placement.host not in hosts or not is_same(entry, project)

        entry = Entry(file, project.organization, project.id, project.title, where)
        return Index(self.serial + 1, (*self._narrowed(stays), entry), self.hidden)

    def undeployed(
        self, title: str, goes: Callable[[Placement], bool], hidden: Iterable[Hidden]
    ) -> Index:
        """Return the index without an API where it goes, and with these projects hidden."""

        def stays(entry: Entry, placement: Placement) -> bool:
            return entry.title != title or not goes(placement)

        merged = {each.folder: each for each in self.hidden}
        for each in hidden:
            before = merged.get(each.folder)
            where = before.where if before is not None and before.digest == each.digest else ()
            merged[each.folder] = Hidden(
                each.folder, each.digest, tuple(dict.fromkeys((*where, *each.where)))
            )
        return Index(self.serial + 1, self._narrowed(stays), tuple(merged.values()))

    def pruned(self, hides: Callable[[Hidden], bool]) -> Index:
        """Return the index without what hides nothing any more."""
        return Index(self.serial, self.entries, tuple(filter(hides, self.hidden)))

    def _narrowed(self, stays: Callable[[Entry, Placement], bool]) -> tuple[Entry, ...]:
        return tuple(
            msgspec.structs.replace(entry, where=where)
            for entry in self.entries
            if (where := tuple(one for one in entry.where if stays(entry, one)))
        )


def is_same(entry: Entry, project: ApiProject) -> bool:
    """Tell whether both are one API, perhaps in two versions of its files."""
    return (entry.organization, entry.id) == (project.organization, project.id)


def encode(index: Index) -> bytes:
    """Write an index for people, too."""
    return msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"


def decode(data: bytes) -> Index:
    """Read an index. Raises ValueError with a text that says what is wrong."""
    index = msgspec.json.decode(data, type=Index)
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
