"""Loaded projects beside their zips: used only if they are what would be loaded again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.control_plane import store_artifact
from trio_gw.control_plane import artifact_loading, project_cache
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.artifact_loading import NO_API, LoadedApi, load_api
from trio_gw.control_plane.project_cache import ProjectCache

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.control_plane.state import Artifact


class Loads:
    """Loads an artifact as a worker that starts does. `count` is how often its zip was loaded."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.root = base / "artifacts"
        self._load = artifact_loading._load
        monkeypatch.setattr(artifact_loading, "_load", self._counted)

    def _counted(self, *arguments: object) -> object:
        self.count += 1
        return self._load(*arguments)  # type: ignore[arg-type]

    def __call__(self, artifact: Artifact) -> LoadedApi:
        return load_api(ArtifactFolder(self.root), artifact.uuid, (artifact,), None, NO_API)

    def file(self) -> Path:
        (found,) = self.root.glob("*.project")
        return found


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loads:
    return Loads(tmp_path, monkeypatch)


@pytest.fixture
def artifact(tmp_path: Path, loads: Loads) -> Artifact:
    return store_artifact(
        *(ArtifactFolder(loads.root), tmp_path, "Chat"),
        sandbox="wss://sandbox.example",
        corsConfiguration={
            "corsConfigurationEnabled": True,
            "accessControlAllowOrigins": ["https://a"],
        },
    )


def test_the_next_worker_gets_the_same_project(loads: Loads, artifact: Artifact) -> None:
    first = loads(artifact)
    assert loads(artifact) == first
    assert loads.count == 1
    (project,) = first.projects.values()
    assert project.cors is not None
    assert project.sandbox is not None
    assert loads.file().stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_not_used(loads: Loads, artifact: Artifact) -> None:
    first = loads(artifact)
    path = loads.file()
    data = path.read_bytes()
    for harm in (b"", data[:-1], data[:40], b"\0" * len(data), data[:50] + b"x" + data[51:]):
        path.write_bytes(harm)
        count = loads.count
        assert loads(artifact) == first
        assert loads.count == count + 1
        assert path.read_bytes() == data


def test_another_version_of_the_loader_loads_again(
    loads: Loads, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads(artifact)
    monkeypatch.setattr(project_cache, "_loader_version", lambda: "other")
    loads(artifact)
    assert loads.count == 2


def test_variables_that_replace_backends_are_never_kept(
    loads: Loads, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("api_0123_prod_basic_password", "secret of the environment")
    cache = ProjectCache(loads.root)
    loads(artifact)
    loads(artifact)
    assert loads.count == 2
    assert not list(loads.root.glob("*.project"))
    assert cache.get((artifact.digest, "", "")) is None


def test_other_backends_are_another_project(tmp_path: Path, loads: Loads) -> None:
    folder = ArtifactFolder(loads.root)
    for url in ("ws://one.example", "ws://two.example"):
        made = store_artifact(folder, tmp_path, "Chat", production=url)
        (project,) = loads(made).projects.values()
        assert project.production is not None
        assert str(project.production.endpoints[0]) == f"{url}:80"
    assert loads.count == 2


def test_broken_projects_are_loaded_again(tmp_path: Path, loads: Loads) -> None:
    broken = store_artifact(ArtifactFolder(loads.root), tmp_path, "Chat", broken=True)
    assert loads(broken).problems == loads(broken).problems != ()
    assert loads.count == 2


def test_it_goes_with_its_zip(tmp_path: Path, loads: Loads, artifact: Artifact) -> None:
    other = store_artifact(ArtifactFolder(loads.root), tmp_path, "News")
    loads(artifact)
    loads(other)
    ArtifactFolder(loads.root).sweep({other.digest})
    assert {path.name[:64] for path in loads.root.iterdir()} == {other.digest}
    assert len(list(loads.root.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_no_matter(loads: Loads, artifact: Artifact) -> None:
    first = loads(artifact)
    loads.file().unlink()
    cache = ProjectCache(loads.root / "none")
    (result,) = first.sources.values()
    cache.put((artifact.digest, "", ""), result)
    assert cache.get((artifact.digest, "", "")) is None
