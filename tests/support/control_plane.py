"""What an earlier run left in the cache of a gateway with a control plane."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import trio

from support.adminapi import packed
from support.projects import api, asyncapi, write
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.state import Artifact
from trio_gw.control_plane.state_reader import StateReader, source_of
from trio_gw.control_plane.state_writer import StateWriter

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.control_plane.state import StateChange

PLACES = (("Default", "localhost"),)
NOWHERE = "https://localhost:1/"  # nobody listens there
OPEN = {"publish": {}, "x-auth-type": "None"}


def store_artifact(
    folder: ArtifactFolder,
    base: Path,
    name: str,
    places: tuple[tuple[str, str], ...] = PLACES,
    /,
    *,
    backend: str = "ws://localhost:1",
    topic: str = "/*",
    broken: bool = False,
    production: str = "",
    sandbox: str = "",
    **more: Any,
) -> Artifact:
    """Put the zip of an API, whose name is its UUID too, into a folder; return the artifact.

    `more` are keys of its api.yaml. Its topic needs no token.
    """
    meta = api(name, f"/{name.lower()}", backend, id=name, **more)
    definition = asyncapi({topic: OPEN})
    project = write(base / "aside", name, meta, definition)
    if broken:
        (project / "api.yaml").write_text("data: [")
    data = packed(project, f"{name}-1.0.0")
    digest = hashlib.sha256(data).hexdigest()
    folder.put(digest, data)
    return Artifact(name, "1", digest, places, production=production, sandbox=sandbox)


def artifact_folder(base: Path, table: ControlPlaneSettings | None = None) -> ArtifactFolder:
    """Return the zips in the cache of the gateway in `base`."""
    return ArtifactFolder(base / (table or ControlPlaneSettings()).cache / "artifacts")


async def write_cache(base: Path, table: ControlPlaneSettings, *changes: StateChange) -> None:
    """Make these changes in the cache of the gateway in `base`, which must not run."""
    folder = base / table.cache
    reader = StateReader(folder, source_of(table), table.cache)
    writer = StateWriter(reader, ArtifactFolder(folder / "artifacts"), table.cache)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        await nursery.start(writer.run)
        await writer.opened.wait()
        for change in changes:
            await writer.change(change)
        await writer.flush()
        nursery.cancel_scope.cancel()
