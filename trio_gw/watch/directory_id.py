"""The identity of a directory: its path and its inode."""

from __future__ import annotations

from typing import NamedTuple


class DirectoryId(NamedTuple):
    """A real directory and its identity."""

    path: str
    device: int
    inode: int
