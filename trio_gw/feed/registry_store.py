"""The registry of applications on disk: one file, replaced as a whole under a lock. Blocks.

A change takes effect with the rename of the file, after its content has reached the disk. So a
crash leaves the old registry or the new one. Only the owner of the process may read the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config import registry_text, regular
from trio_gw.config.registry_text import ReadRegistry, decode, encode
from trio_gw.errors import Problem, UnusableError
from trio_gw.feed import folder_lock
from trio_gw.feed.atomic_file import (
    TEMPORARY,
    FileVersion,
    file_version,
    replacing,
    sync_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.config.registry import Registry

FILE = "registry.json"
MAX_BYTES = 64 << 20
_PRIVATE_FOLDER, _PRIVATE = 0o700, 0o600
_LOCK_WITHIN = 5.0  # seconds


class StoredRegistry(NamedTuple):
    """One reading of the file; without a file the registry is empty and `version` None."""

    version: FileVersion | None
    read: ReadRegistry


EMPTY = StoredRegistry(None, registry_text.NOTHING)


class RegistryStore:
    """The folder of the portal; created with the first change. `label` is its name in problems."""

    def __init__(self, root: Path, label: str) -> None:
        self.root = root
        self.label = f"{label}/{FILE}"

    def version(self) -> FileVersion | None:
        """Return the version of the file; None if there is none. Raises OSError."""
        try:
            return file_version(self.root / FILE)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, before: StoredRegistry = EMPTY) -> StoredRegistry:
        """Read the file; what is as `before` is not decoded again.

        Raises `UnusableError` if it is damaged or cannot be read.
        """
        try:
            with open(self.root / FILE, "rb", opener=regular.opener) as file:
                found = os.fstat(file.fileno())
                version = FileVersion(found.st_ino, found.st_mtime_ns, found.st_size)
                if version == before.version:
                    return before
                data = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return EMPTY
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            hint = "let the user of the gateway read it"
            raise UnusableError([Problem(self.label, 0, 0, what, hint)]) from error
        try:
            if len(data) > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
            return StoredRegistry(version, decode(data, before.read))
        except (ValueError, RecursionError) as error:
            what = f"is damaged: {error}"
            hint = "repair it, or restore it from a backup; until then the last good state holds"
            raise UnusableError([Problem(self.label, 0, 0, what, hint)]) from None

    def change(
        self, make: Callable[[Registry], Registry], before: StoredRegistry = EMPTY
    ) -> StoredRegistry:
        """Replace the registry by what `make` makes of it; return the new reading.

        Raises what `make` raises, `UnusableError`, OSError, and TimeoutError if the lock is held
        too long. After an OSError the registry on disk may be the old one or the new one.
        """
        with folder_lock.held(self.root, _LOCK_WITHIN, _PRIVATE_FOLDER):
            current = self.read(before)
            made = make(current.read.registry)
            if made is current.read.registry:
                return current
            data = encode(made)
            if len(data) > MAX_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            with replacing(self.root / FILE, _PRIVATE) as file:
                file.write(data)
            sync_folder(self.root)
            return self.read(current)

    def sweep(self) -> None:
        """Remove the temporary files that a crash left behind."""
        if not self.root.is_dir():
            return
        with folder_lock.held(self.root, _LOCK_WITHIN), os.scandir(self.root) as entries:
            for entry in list(entries):
                if entry.name.startswith(TEMPORARY) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(entry.path)
