"""What a draft would replace: the files of an API as it is served, as they may be shown. Blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.documents import masking, project_reading
from trio_gw.portal.editing.check import Base

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings

UNREADABLE = "# This file holds secrets that cannot be masked for certain, so it is not shown.\n"


def read_base(settings: Settings, base: Path, project: ApiProject) -> Base:
    """Read the files of a served project. Raises OSError."""
    files, _ = project_reading.read_files(settings, base, project.folder)
    shown: dict[str, str] = {}
    for path, data in files.items():
        try:
            shown[path] = masking.masked(data, path)
        except masking.UnmaskableError:
            shown[path] = UNREADABLE
    return Base(project, files, shown)
