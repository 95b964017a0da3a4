"""The folder `deployed/` on disk: uploads on their way, zips, and the index that names them.

Blocks; called in worker threads. What makes a deployment is the rename of the index, after all
that it names has reached the disk: a crash leaves the old index or the new one. A zip is never
changed once it is named; one that no index names, and whatever was on its way, is swept away at
the start of a process. A lock makes changes take turns, also between processes; it goes with the
process that holds it. Uploads need no lock: their files have no names, so they are gone when they
are closed, whoever closes them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import tempfile
import time
import zipfile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from trio_gw.config import regular
from trio_gw.errors import Problem, UnusableError
from trio_gw.feed import precedence
from trio_gw.feed.index import Index, decode, encode
from trio_gw.feed.removal import remove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

INDEX = "index.json"
INDEX_BYTES = 16 << 20
_LOCK = ".lock"
_COMING = ".coming-"  # begins the name of whatever is not there yet
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The same files make the same zip.
_LOCK_TICK = 0.02


class State(NamedTuple):
    """What tells one index on disk from another."""

    inode: int
    modified: int
    size: int


class Depot:
    """The folder; made when the first upload comes. `label` stands for it in problems."""

    def __init__(self, root: Path, label: str) -> None:
        self.root = root
        self.label = label

    def state(self) -> State | None:
        """Return the state of the index; None if there is none."""
        try:
            found = os.stat(self.root / INDEX)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return State(found.st_ino, found.st_mtime_ns, found.st_size)

    def read(self) -> Index:
        """Read the index; an empty one if there is none.

        Raises `UnusableError` if it is damaged, OSError if it cannot be read.
        """
        try:
            data = regular.read(self.root / INDEX, INDEX_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return Index()
        try:
            return decode(data)
        except ValueError as error:
            what = f"is damaged: {error}"
            hint = "fix it, or remove it and deploy anew"
            raise UnusableError([Problem(f"{self.label}/{INDEX}", 0, 0, what, hint)]) from None

    @contextlib.contextmanager
    def locked(self, patience: float) -> Iterator[None]:
        """Hold the lock. Raises TimeoutError after `patience` seconds."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / _LOCK, "ab", opener=regular.opener) as file:
            until = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise TimeoutError from None
                    time.sleep(_LOCK_TICK)
            yield

    def upload(self) -> BinaryIO:
        """Open a file for an upload; it takes room until it is closed, and has no name."""
        self.root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self.root, prefix=_COMING, buffering=0)

    def store(self, files: Mapping[str, bytes], title: str, serial: int) -> str:
        """Write these files as a zip, to the disk itself; return its name. Hold the lock."""
        name = f"{re.sub(r'[^A-Za-z0-9._-]+', '_', title)[:80].lstrip('.')}-{serial}"
        name = f"{name}-{secrets.token_hex(4)}.zip"
        coming = self._coming()
        try:
            with open(coming, "xb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
                    for path, data in sorted(files.items()):
                        packed.writestr(zipfile.ZipInfo(path, _EPOCH), data, zipfile.ZIP_DEFLATED)
                _sync(file)
            os.rename(coming, self.root / name)
        except BaseException:
            coming.unlink(missing_ok=True)
            raise
        return name

    def commit(self, index: Index) -> None:
        """Replace the index, on the disk itself. Hold the lock.

        When it raises, the index may be the old one or the new one.
        """
        data = encode(index)
        if len(data) > INDEX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        coming = self._coming()
        try:
            with open(coming, "xb") as file:
                file.write(data)
                _sync(file)
            self._sync_folder()  # The zips' names first.
            os.rename(coming, self.root / INDEX)
        except BaseException:
            coming.unlink(missing_ok=True)
            raise
        self._sync_folder()

    def discard(self, names: Collection[str]) -> None:
        """Remove those of these zips that the index does not name. Hold the lock.

        What cannot be removed is left for `sweep`.
        """
        with contextlib.suppress(OSError, UnusableError):
            for name in set(names) - self._named():
                (self.root / name).unlink(missing_ok=True)

    def sweep(self, *, forget: bool = False) -> None:
        """Remove what a crash left behind; with `forget` everything.

        Raises `UnusableError` if the index is damaged: then nothing is removed.
        """
        if not self.root.is_dir():
            return
        with self.locked(patience=5.0):
            if forget:
                for name in (INDEX, precedence.FILE):
                    (self.root / name).unlink(missing_ok=True)
            named = self._named()
            with os.scandir(self.root) as entries:
                for entry in list(entries):
                    stray = entry.name.startswith(_COMING)
                    stray |= entry.name.endswith(".zip") and entry.name not in named
                    if stray:
                        remove(self.root / entry.name)

    def _named(self) -> set[str]:
        return {entry.file for entry in self.read().entries}

    def _coming(self) -> Path:
        return self.root / f"{_COMING}{secrets.token_hex(8)}"

    def _sync_folder(self) -> None:
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
