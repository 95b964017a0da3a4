"""The folder that holds what the control plane said last."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from trio_gw.errors import Problem, UnusableError
from trio_gw.feed.remove_tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.control_plane import ControlPlaneSettings


@contextlib.contextmanager
def cache_folder(table: ControlPlaneSettings, base: Path) -> Iterator[Path]:
    """Give the folder `control_plane.cache`, or a private one that is removed at the end.

    Of several workers, the process that forks them calls this. Raises `UnusableError`.
    """
    if not table.url or table.cache:
        yield base / table.cache
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="trio-gw-control-plane-"))
    except OSError as error:
        what = f"no temporary folder can be made ({os.strerror(error.errno or 0)})"
        problem = Problem(tempfile.gettempdir(), 0, 0, what, "set control_plane.cache")
        raise UnusableError([problem]) from None
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            remove_tree(folder)
