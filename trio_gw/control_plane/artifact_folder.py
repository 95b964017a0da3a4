"""The zips of API projects from the control plane, in one folder, named by their digest. Blocks.

A zip is not synced to disk: 2,000 of them would take long. Who reads one compares its digest, so a
zip that a power failure has cut is not used, and is fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from typing import TYPE_CHECKING

from trio_gw.config import regular
from trio_gw.control_plane.project_cache import PROJECT, ProjectCache
from trio_gw.feed.atomic_file import TEMPORARY, temporary_path

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

ZIP_OCTETS = 64 << 20  # of one zip
KEEP = 3600.0  # seconds for which a new zip stays, before a state needs it
DIGITS = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactFolder:
    """The folder; created with the first zip."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.projects = ProjectCache(root)  # what was loaded from the zips
        self._checked: set[str] = set()  # digests of zips that this process has compared
        self._new: dict[str, float] = {}  # digests of zips from this process → when they came

    @staticmethod
    def name(digest: str) -> str:
        """Return the name of the file of a zip. Raises ValueError if this is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError("not a SHA-256 digest")
        return f"{digest}.zip"

    def has(self, digest: str) -> bool:
        """Return whether the zip is there and undamaged. Reads it once."""
        if digest in self._checked and (self.root / self.name(digest)).exists():
            return True
        with contextlib.suppress(OSError, ValueError):
            self.read(digest)
            self._checked.add(digest)
            return True
        self._checked.discard(digest)
        return False

    def read(self, digest: str) -> bytes:
        """Read a zip. Raises OSError, ValueError if it is damaged."""
        data = regular.read(self.root / self.name(digest), ZIP_OCTETS + 1)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError("the file is damaged")
        return data

    def put(self, digest: str, data: bytes) -> None:
        """Store a zip. Raises OSError, ValueError if the digest is not that of the data."""
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError("another digest")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = temporary_path(self.root)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
            os.rename(temporary, self.root / self.name(digest))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._checked.add(digest)
        self._new[digest] = time.monotonic()

    def sweep(self, needed: Collection[str]) -> None:
        """Remove what is neither needed nor new. Raises OSError."""
        old = time.monotonic() - KEEP
        self._new = {
            digest: came
            for digest, came in self._new.items()
            if came > old and digest not in needed
        }
        kept = {*needed, *self._new}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root) as entries:
            for entry in list(entries):
                digest = entry.name[:DIGITS]  # also of the project that was loaded from the zip
                if digest not in kept and entry.name.endswith((".zip", PROJECT)):
                    (self.root / entry.name).unlink(missing_ok=True)
                    self._checked.discard(digest)
                elif entry.name.startswith(TEMPORARY) and _age(entry) > KEEP:
                    (self.root / entry.name).unlink(missing_ok=True)


def _age(entry: os.DirEntry[str]) -> float:
    """Return the age of a file in seconds; other workers write temporary files, too."""
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:  # it has its final name now
        return 0.0
