"""The folder `deployed/history/`: the zips that were deployed before, a folder for each API.

Blocks; called in worker threads. The zip that is served is in the index of deployments, with what
is known of its revision. It enters the history before an index without it is committed: the zip by
a hard link, which takes no room, then the list `revisions.json` by a rename. So a crash loses no
revision, and the history together with the index is always complete. The list holds the latest
revisions, and the number of folders of APIs that are not deployed any more is limited. What a crash
leaves in a folder is removed at the next change of its API. spec: portal §2.8.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import regular
from trio_gw.feed.atomic_file import TEMPORARY, replacing
from trio_gw.feed.deployment_index import Revision  # noqa: TC001 - needed to decode a list
from trio_gw.feed.remove_tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from trio_gw.feed.deployment_index import DeployedZip, DeploymentIndex

log = logging.getLogger("trio_gw.deploy")

HISTORY = "history"
LIST = "revisions.json"
LIST_BYTES = 4 << 20
KEEP = 20  # revisions of an API, the one that is served included
MOST_APIS = 2000  # folders, above which those of APIs that are gone are removed


class KeptRevision(msgspec.Struct, frozen=True):
    """A revision: its zip, and the title of the API then. `live`: the hosts that serve it now."""

    file: str
    title: str
    revision: Revision
    live: tuple[str, ...] = ()


class _History(msgspec.Struct, frozen=True):
    """The content of a list."""

    organization: str
    id: str
    revisions: tuple[KeptRevision, ...] = ()


class RevisionStore:
    """The folder below `root`, the folder of deployments. `keep` revisions of an API are kept."""

    def __init__(self, root: Path, keep: int = KEEP) -> None:
        self._root = root
        self._history = root / HISTORY
        self._keep = max(1, keep)

    def revisions(
        self, index: DeploymentIndex, organization: str, api_id: str
    ) -> list[KeptRevision]:
        """List the revisions of an API, the latest first. Raises OSError."""
        found = {each.file: each for each in self._read(organization, api_id)}
        for entry in index.entries_of(organization, api_id):
            hosts = tuple(dict.fromkeys(placement.host for placement in entry.where))
            found[entry.file] = KeptRevision(entry.file, entry.title, entry.revision, hosts)
        listed = sorted(found.values(), key=lambda each: each.revision.number, reverse=True)
        return listed[: self._keep] + [each for each in listed[self._keep :] if each.live]

    def apis(self) -> list[tuple[str, str, str]]:
        """List the APIs that have old revisions: organization, id and title. Raises OSError."""
        found = []
        for path in sorted(self._history.glob(f"*/{LIST}")):
            kept = self._content(path)
            if kept is not None and kept.revisions:
                found.append((kept.organization, kept.id, kept.revisions[-1].title))
        return found

    def path(
        self, index: DeploymentIndex, organization: str, api_id: str, number: int
    ) -> Path | None:
        """Return the path of the zip of a revision; None if there is no such revision."""
        for each in self.revisions(index, organization, api_id):
            if each.revision.number == number:
                kept = self._folder(organization, api_id) / each.file
                return self._root / each.file if each.live else kept
        return None

    def take(self, entries: Iterable[DeployedZip]) -> None:
        """Keep these zips, which will not be in the index any more. Hold the lock.

        A zip that is missing is left out. Raises OSError.
        """
        for entry in entries:
            folder = self._folder(entry.organization, entry.id)
            if not folder.is_dir():
                folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            if not (folder / entry.file).exists():
                try:
                    _link(self._root / entry.file, folder / entry.file)
                except FileNotFoundError:
                    log.warning("%s is missing, so it is not kept as a revision", entry.file)
                    continue
            kept = {each.file: each for each in self._read(entry.organization, entry.id)}
            kept[entry.file] = KeptRevision(entry.file, entry.title, entry.revision)
            ordered = sorted(kept.values(), key=lambda each: each.revision.number)
            left = tuple(ordered[-self._keep :])
            _sync(folder)
            with replacing(folder / LIST) as file:
                content = _History(entry.organization, entry.id, left)
                file.write(msgspec.json.encode(content) + b"\n")
            _sync(folder)
            self._tidy(folder, {each.file for each in left})

    def limit(self, index: DeploymentIndex) -> None:
        """Remove the oldest histories of APIs that are gone, beyond the limit. Hold the lock."""
        try:
            with os.scandir(self._history) as entries:
                folders = [(each.stat().st_mtime, each.name) for each in entries]
        except FileNotFoundError:
            return
        if len(folders) <= MOST_APIS:
            return
        there = {_name(entry.organization, entry.id) for entry in index.entries}
        gone = sorted(each for each in folders if each[1] not in there)
        for _, name in gone[: len(folders) - MOST_APIS]:
            remove_tree(self._history / name)

    def forget(self) -> None:
        """Remove all revisions. Hold the lock."""
        remove_tree(self._history)

    def _folder(self, organization: str, api_id: str) -> Path:
        return self._history / _name(organization, api_id)

    def _read(self, organization: str, api_id: str) -> tuple[KeptRevision, ...]:
        found = self._content(self._folder(organization, api_id) / LIST)
        return () if found is None else found.revisions

    def _content(self, path: Path) -> _History | None:
        """Read a list. A damaged one is reported and counts as missing."""
        try:
            found = msgspec.json.decode(regular.read(path, LIST_BYTES), type=_History)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            log.warning("%s/%s is damaged: %s", path.parent.name, LIST, error)
            return None
        listed = tuple(each for each in found.revisions if _is_zip(each.file))
        return msgspec.structs.replace(found, revisions=listed)

    def _tidy(self, folder: Path, listed: set[str]) -> None:
        """Remove zips that are not listed any more, and what a crash has left."""
        with os.scandir(folder) as entries:
            for entry in list(entries):
                stray = entry.name.startswith(TEMPORARY)
                stray |= entry.name.endswith(".zip") and entry.name not in listed
                if stray:
                    remove_tree(folder / entry.name)


def digest_of(files: Mapping[str, bytes]) -> str:
    """Return the digest of the files of a project, as a revision shows it."""
    digest = hashlib.sha256()
    for path, data in sorted(files.items()):
        digest.update(f"{len(path.encode())} {path} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()


def _name(organization: str, api_id: str) -> str:
    """Name the folder of an API, readable and without a clash."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", api_id)[:40].strip("_")
    unique = hashlib.sha256(f"{organization}\n{api_id}".encode()).hexdigest()[:16]
    return f"{readable}-{unique}" if readable else unique


def _is_zip(name: str) -> bool:
    return name.endswith(".zip") and not name.startswith(".") and not {"/", "\0"} & set(name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a file system without hard links
        with open(source, "rb") as data, replacing(target) as file:
            shutil.copyfileobj(data, file)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
