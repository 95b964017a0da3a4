"""The folder `deployed/` on disk: uploads in progress, zip files, and the index that lists them.

Blocks; called in worker threads. A deployment takes effect with the rename of the index, after
everything that the index lists has reached the disk. So a crash leaves the old index or the new
one. A zip file never changes once it is listed. Zip files that no index lists, and temporary
files, are removed when a process starts. A lock serializes changes, also between processes; the
system releases it when a process ends. Uploads need no lock: their files have no names and
disappear when they are closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import tempfile
import zipfile
from typing import TYPE_CHECKING, BinaryIO

from trio_gw.config import regular
from trio_gw.errors import Problem, UnusableError
from trio_gw.feed import folder_lock, precedence
from trio_gw.feed.atomic_file import TEMPORARY, file_version, replacing, sync_folder
from trio_gw.feed.deployment_index import DeploymentIndex, NewerError, decode, encode
from trio_gw.feed.remove_tree import remove_tree
from trio_gw.feed.revision_store import KEEP, RevisionStore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from trio_gw.feed.atomic_file import FileVersion
    from trio_gw.feed.deployment_index import DeployedZip

INDEX = "index.json"
INDEX_BYTES = 16 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # constant, so that the same files give the same zip


class DeploymentStore:
    """The folder; created with the first upload. `label` is its name in problems.

    `keep` is the number of revisions of an API to keep.
    """

    def __init__(self, root: Path, label: str, keep: int = KEEP) -> None:
        self.root = root
        self.label = label
        self.revisions = RevisionStore(root, keep)

    def version(self) -> FileVersion | None:
        """Return the version of the index file; None if there is none."""
        try:
            return file_version(self.root / INDEX)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self) -> DeploymentIndex:
        """Read the index; an empty one if there is no file.

        Raises `UnusableError` if it is damaged, OSError if it cannot be read.
        """
        try:
            data = regular.read(self.root / INDEX, INDEX_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return DeploymentIndex()
        try:
            return decode(data)
        except NewerError as error:
            hint = "run that version again; nothing that it stored is changed"
            raise UnusableError(
                [Problem(f"{self.label}/{INDEX}", 0, 0, str(error), hint)]
            ) from None
        except ValueError as error:
            what = f"is damaged: {error}"
            hint = "repair it, or remove it and deploy the APIs again"
            raise UnusableError([Problem(f"{self.label}/{INDEX}", 0, 0, what, hint)]) from None

    @contextlib.contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Hold the lock. Raises TimeoutError after `timeout` seconds."""
        with folder_lock.held(self.root, timeout):
            yield

    def upload(self) -> BinaryIO:
        """Open a file without a name for an upload; closing it deletes it."""
        self.root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self.root, prefix=TEMPORARY, buffering=0)

    def store(self, files: Mapping[str, bytes], title: str, serial: int) -> str:
        """Write these files as a zip and sync it to disk; return its name. Hold the lock."""
        name = f"{re.sub(r'[^A-Za-z0-9._-]+', '_', title)[:80].lstrip('.')}-{serial}"
        name = f"{name}-{secrets.token_hex(4)}.zip"
        with (
            replacing(self.root / name) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for path, data in sorted(files.items()):
                packed.writestr(zipfile.ZipInfo(path, _EPOCH), data, zipfile.ZIP_DEFLATED)
        return name

    def commit(self, index: DeploymentIndex, gone: Sequence[DeployedZip] = ()) -> None:
        """Replace the index and sync it to disk; `gone` become old revisions. Hold the lock.

        When it raises, the index on disk may be the old one or the new one.
        """
        data = encode(index)
        if len(data) > INDEX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self.revisions.take(gone)
        if gone:
            self.revisions.limit(index)
        self._sync_folder()  # The names of the zip files must be on disk first.
        with replacing(self.root / INDEX) as file:
            file.write(data)
        self._sync_folder()

    def discard(self, names: Collection[str]) -> None:
        """Remove those of the named zip files that the index does not list. Hold the lock.

        Files that cannot be removed now are left for `sweep`.
        """
        with contextlib.suppress(OSError, UnusableError):
            for name in set(names) - self._listed():
                (self.root / name).unlink(missing_ok=True)

    def sweep(self, *, forget: bool = False) -> None:
        """Remove what a crash left behind; with `forget`, remove all deployments.

        Raises `UnusableError` if the index is damaged. Then nothing is removed.
        """
        if not self.root.is_dir():
            return
        with self.locked(timeout=5.0):
            if forget:
                for name in (INDEX, precedence.FILE):
                    (self.root / name).unlink(missing_ok=True)
                self.revisions.forget()
            listed = self._listed()
            with os.scandir(self.root) as entries:
                for entry in list(entries):
                    stray = entry.name.startswith(TEMPORARY)
                    stray |= entry.name.endswith(".zip") and entry.name not in listed
                    if stray:
                        remove_tree(self.root / entry.name)

    def _listed(self) -> set[str]:
        return {entry.file for entry in self.read().entries}

    def _sync_folder(self) -> None:
        sync_folder(self.root)
