"""What the files of the projects add to the catalogue: words to search for, the time of a change.

The files are read when somebody searches, some projects at a time in the worker thread, so that
other work gets its turn. What was read of a project is kept until the project is replaced.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import trio

from trio_gw.documents.project_reading import definition_path, read_files
from trio_gw.portal.summaries import summaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.feed.catalog import Catalog
    from trio_gw.portal.services import PortalServices

AT_ONCE = 25  # projects in one job of the worker thread


class ProjectTexts(NamedTuple):
    """The texts of one project, and when its files changed: epoch seconds, 0 if unknown."""

    texts: tuple[str, ...] = ()
    changed: float = 0


class CatalogueTexts:
    """The texts of all projects of one gateway."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ApiProject, ProjectTexts]] = {}
        self._lock = trio.Lock()

    async def read(
        self, services: PortalServices, projects: Iterable[ApiProject]
    ) -> Mapping[str, ProjectTexts]:
        """Return the texts of these projects, by folder; those of others are forgotten."""
        async with self._lock:
            wanted = {project.folder: project for project in projects}
            known = self._known
            missing = [
                project
                for folder, project in wanted.items()
                if folder not in known or known[folder][0] is not project
            ]
            for first in range(0, len(missing), AT_ONCE):
                some = missing[first : first + AT_ONCE]
                found = await services.in_thread(partial(_read, services, some))
                known |= {one.folder: (one, texts) for one, texts in found}
            for folder in known.keys() - wanted.keys():
                del known[folder]
            return {folder: known[folder][1] for folder in wanted}


_texts: WeakKeyDictionary[Catalog, CatalogueTexts] = WeakKeyDictionary()


def catalogue_texts(services: PortalServices) -> CatalogueTexts:
    """Return the texts of this gateway."""
    return _texts.setdefault(services.catalog, CatalogueTexts())


def _read(
    services: PortalServices, projects: list[ApiProject]
) -> list[tuple[ApiProject, ProjectTexts]]:
    return [(one, read_texts(services.settings, services.base, one)) for one in projects]


def read_texts(settings: Settings, base: Path, project: ApiProject) -> ProjectTexts:
    """Read the texts of a project. Blocks. Files that cannot be read have none."""
    try:
        files, _ = read_files(settings, base, project.folder)
        path = definition_path(files)
        texts = summaries(files[path]) if path else ()
        return ProjectTexts(texts, max(_times(base / project.folder), default=0))
    except OSError:
        return ProjectTexts()


def _times(path: Path, depth: int = 2) -> Iterator[float]:
    """Yield the times of the last change of a zip, or of the files of a project."""
    if path.is_file():
        yield path.stat().st_mtime
    elif depth and path.is_dir():
        with os.scandir(path) as entries:
            for one in entries:
                yield from _times(path / one.name, depth - 1)
