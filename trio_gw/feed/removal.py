"""Removing what lies in a folder of the gateway's own, however deep it is nested. Blocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing if there is none.

    No link is followed. `shutil.rmtree` calls itself for every level, so a folder that is nested
    deeply enough ends it with RecursionError. Raises OSError.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    folders = [str(path)]
    for folder in folders:  # grows meanwhile: those above come before those below
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    os.unlink(entry.path)
    for folder in reversed(folders):
        os.rmdir(folder)
