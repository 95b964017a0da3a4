"""The file of the state, as its writer sees it: records are appended to its end. Blocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trio_gw.control_plane import state_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from trio_gw.control_plane.state import StateChange
    from trio_gw.control_plane.state_file import Prefix

GROWN = 1 << 20  # octets of changes, at least, before the file is written anew


class AppendedFile:
    """The file, and the octet where the next record begins."""

    def __init__(self, path: Path, descriptor: int, prefix: Prefix, end: int) -> None:
        self.identity = prefix.identity
        self.end = end
        self._path = path
        self._descriptor = descriptor
        self._start = prefix.state_end

    @classmethod
    def opened(cls, path: Path, prefix: Prefix, end: int) -> AppendedFile:
        """Open the file with this prefix. Raises OSError."""
        return cls(path, os.open(path, os.O_WRONLY | os.O_CLOEXEC), prefix, end)

    @property
    def grown(self) -> bool:
        """Whether there are more changes than the file should have."""
        return self.end - self._start > max(GROWN, self._start)

    def append(self, changes: Iterable[StateChange]) -> bool:
        """Append changes; False if the file was removed or replaced. Raises OSError."""
        if not is_at(self._path, self._descriptor):
            return False
        data = b"".join(record for change in changes for record in state_file.encode(change))
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], self.end + done)
        self.end += done
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still that with this path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
