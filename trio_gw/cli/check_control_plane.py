"""Checks what `[control_plane]` needs on this machine, for `trio-gw check`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trio_gw.control_plane.requirements import require, tls_context
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio_gw.config.control_plane import ControlPlaneSettings


def check_control_plane(settings: ControlPlaneSettings, base: Path) -> list[Problem]:
    """Check the library, the certificates and the folder of the cache. Nothing is connected to."""
    problems: list[Problem] = []
    try:
        require(settings.url)
    except UnusableError as error:
        problems += error.problems
    try:
        tls_context(settings, base)
    except UnusableError as error:
        problems += error.problems
    if settings.cache:
        problems += _unwritable(base / settings.cache)
    return problems


def _unwritable(cache: Path) -> Iterator[Problem]:
    """Find why the gateway could not write the folder, or could not create it."""
    place = cache
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        what = f"control_plane.cache: {place.name} is not a folder"
        yield Problem(str(cache), 0, 0, what, "name another folder, or remove the file")
    elif not os.access(place, os.W_OK | os.X_OK):
        what = "control_plane.cache cannot be written"
        yield Problem(str(cache), 0, 0, what, f"change the owner or the mode of {place}")
