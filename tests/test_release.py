"""`scripts/release`: what it refuses, what it changes, and the archives of a dry run."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TODAY = datetime.date(2026, 12, 1)
CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- More.\n\n## [0.1.0] - 2026-01-01\n\n- All.\n"
)


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = _load()


def git(folder: Path, *arguments: str) -> str:
    return str(release.run(["git", *arguments], cwd=folder))


def identify(folder: Path) -> None:
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@example.org")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "trio_gw").mkdir()
    (tmp_path / "trio_gw" / "__init__.py").write_text('"""A."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    git(tmp_path, "init", "--quiet")
    identify(tmp_path)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    return tmp_path


def test_a_release_is_a_commit_and_a_tag(repository: Path) -> None:
    assert release.prepare(repository, "0.2.0", TODAY) == "v0.2.0"
    assert '__version__ = "0.2.0"' in (repository / "trio_gw" / "__init__.py").read_text()
    text = (repository / "CHANGELOG.md").read_text()
    assert (
        "## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- More.\n\n## [0.1.0]" in text
    )
    assert git(repository, "log", "-1", "--format=%s") == "Release 0.2.0\n"
    assert git(repository, "status", "--porcelain") == ""
    told = git(repository, "tag", "--list", "--format=%(contents)", "v0.2.0")
    assert told.strip() == "trio-gw 0.2.0\n\n### Added\n\n- More."


def test_a_version_that_is_prepared_already_is_only_tagged(repository: Path) -> None:
    release.prepare(repository, "0.2.0", TODAY)
    git(repository, "tag", "--delete", "v0.2.0")
    before = git(repository, "rev-parse", "HEAD")
    release.prepare(repository, "0.2.0", TODAY)
    assert git(repository, "rev-parse", "HEAD", "v0.2.0^{commit}") == before * 2


@pytest.mark.parametrize("version", ["1", "0.2", "v0.2.0", "0.2.0-1", "00.2.0", "0.2.0 "])
def test_what_is_no_version_is_refused(repository: Path, version: str) -> None:
    with pytest.raises(release.ReleaseError, match="is not a version"):
        release.prepare(repository, version, TODAY)


def test_what_is_not_ready_is_refused(repository: Path) -> None:
    (repository / "new.py").write_text("")
    with pytest.raises(release.ReleaseError, match="not committed"):
        release.prepare(repository, "0.2.0", TODAY)
    (repository / "new.py").unlink()
    git(repository, "tag", "v0.2.0")
    with pytest.raises(release.ReleaseError, match=r"the tag v0\.2\.0 exists"):
        release.prepare(repository, "0.2.0", TODAY)
    release.prepare(repository, "0.3.0", TODAY)
    with pytest.raises(release.ReleaseError, match="missing or empty"):
        release.prepare(repository, "0.4.0", TODAY)


def test_a_dry_run_makes_the_archives_and_leaves_the_repository_alone(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "output"
    git(ROOT, "clone", "--quiet", ".", str(source))
    shutil.copy(ROOT / "scripts" / "release.py", source / "scripts")
    text = (source / "CHANGELOG.md").read_text()
    entry = "## [Unreleased]\n\n### Added\n\n- An entry; right after a release there is none.\n"
    (source / "CHANGELOG.md").write_text(text.replace("## [Unreleased]\n", entry, 1))
    identify(source)
    git(source, "commit", "--quiet", "--all", "--message", "Add an entry")
    head = git(source, "rev-parse", "HEAD")
    command: list[str | Path] = [sys.executable, source / "scripts" / "release.py", "99.0.0"]
    done = subprocess.run(
        [*command, "--dry-run", "--python", sys.executable, "--output", output],
        env={**os.environ, "TRIO_GW_PURE": "1"},  # compiling takes a minute
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = ["SHA256SUMS", "trio_gw-99.0.0-py3-none-any.whl", "trio_gw-99.0.0.tar.gz"]
    assert sorted(os.listdir(output)) == names
    for line in (output / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((output / name).read_bytes()).hexdigest() == digest
    with tarfile.open(output / names[2]) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"hatch_build.py", "CHANGELOG.md", "trio_gw/relay/lane.pxd", "LICENSE"} <= inside
    with zipfile.ZipFile(output / names[1]) as wheel:
        assert b'__version__ = "99.0.0"' in wheel.read("trio_gw/__init__.py")
        assert "trio_gw/py.typed" in wheel.namelist()
        assert b"pytest11" in wheel.read("trio_gw-99.0.0.dist-info/entry_points.txt")
    assert git(source, "rev-parse", "HEAD") == head
    assert git(source, "tag", "--list", "v99.0.0") == git(source, "status", "--porcelain") == ""
