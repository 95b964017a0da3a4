"""Files that are replaced in one step: readers see the old content or the new one. Blocks.

The new content is written to a temporary file, flushed to disk and then renamed. A crash can leave
the temporary file; its name starts with `TEMPORARY`, so that it can be found and removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPORARY = ".coming-"  # prefix of the names of temporary files and folders


class FileVersion(NamedTuple):
    """Identifies one version of a file; every replacement changes it."""

    inode: int
    modified: int
    size: int


def file_version(path: Path) -> FileVersion:
    """Return the current version of a file. Raises OSError."""
    found = os.stat(path)
    return FileVersion(found.st_ino, found.st_mtime_ns, found.st_size)


def temporary_path(folder: Path) -> Path:
    """Return a new, unused path for a temporary file or folder."""
    return folder / f"{TEMPORARY}{secrets.token_hex(8)}"


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends without an exception.

    The content is on disk before the rename. `mode` has its permissions. Raises OSError.
    """
    temporary = temporary_path(path.parent)
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
