"""Remove a folder of the gateway, however deep it is nested. Blocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a file, a link, or a folder with its content; do nothing if it does not exist.

    Links are not followed. `shutil.rmtree` is recursive, so it fails with RecursionError for
    deeply nested folders. Raises OSError.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    folders = [str(path)]
    for folder in folders:  # the list grows during the loop; parents come before children
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    os.unlink(entry.path)
    for folder in reversed(folders):
        os.rmdir(folder)
