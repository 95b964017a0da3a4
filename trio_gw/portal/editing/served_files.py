"""What a draft would replace: the files of an API as it is served, as they may be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.documents import masking, project_reading
from trio_gw.portal.editing import passwords
from trio_gw.portal.editing.check import Base

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.portal.request import PortalRequest

UNREADABLE = "# This file holds secrets that cannot be masked for certain, so it is not shown.\n"


def read_base(settings: Settings, base: Path, project: ApiProject) -> Base:
    """Read the files of a served project. Blocks; raises OSError."""
    files, _ = project_reading.read_files(settings, base, project.folder)
    return Base(project, files, shown(files))


def shown(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the texts of files, without passwords."""
    found: dict[str, str] = {}
    for path, data in files.items():
        try:
            found[path] = masking.masked(data, path)
        except masking.UnmaskableError:
            found[path] = UNREADABLE
    return found


async def restored(request: PortalRequest, files: Mapping[str, str], api: str) -> dict[str, str]:
    """Return files with the passwords that the editor hides, those of a served API."""
    services = request.services
    project = next(
        (each for _, _, each in services.context.live.table.bases() if api and each.id == api), None
    )
    if project is None or not any(passwords.MASK in text for text in files.values()):
        return dict(files)

    def work() -> dict[str, str]:
        held, _ = project_reading.read_files(services.settings, services.base, project.folder)
        return passwords.restored(files, held)

    return await services.in_thread(work)
