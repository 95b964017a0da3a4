"""Reads the documents of served projects for the admin API; imported when they are first read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.documents.project_reading import ProjectDocuments


def document_reader(
    settings: Settings, base: Path, zip_of: Callable[[str], bytes | None] | None = None
) -> Callable[[ApiProject], ProjectDocuments]:
    """Return a function that reads the documents of a project. It blocks.

    `zip_of` returns the zip of a project of the control plane.
    """

    def read(project: ApiProject) -> ProjectDocuments:
        from trio_gw.documents.project_reading import read_documents

        return read_documents(settings, base, project, zip_of)

    return read
