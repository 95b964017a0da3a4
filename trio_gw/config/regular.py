"""Reads regular files only, as a whole. Blocks.

Opening a named pipe instead of a file would block until another process writes to it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def opener(path: str, flags: int) -> int:
    """Open a regular file, for `open`. Raises OSError for files that could block."""
    flags |= os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a pipe without a reader, or a socket
            raise
        raise _irregular() from None
    mode = os.fstat(descriptor).st_mode
    # /dev/null counts as an empty file.
    if stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(descriptor)):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise _irregular()


def read(path: Path, most: int) -> bytes:
    """Return at most this many octets from the beginning. Raises OSError."""
    with open(path, "rb", opener=opener) as file:
        return file.read(most)


def _irregular() -> OSError:
    return OSError(errno.EINVAL, "not a regular file")
