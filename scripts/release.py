"""Make a release: version, changelog, tag, source archive, wheels and their checksums.

Called by `scripts/release`. Needs nothing but Python, git, the package index, and a C compiler for
wheels with compiled extensions. The archives are built from the tagged commit, and wheels from the
source archive. Their timestamps are that of the commit, so the same commit, compiler and build
tools give the same bytes.

Nothing is pushed or uploaded.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent
VERSION_FILE = "trio_gw/__init__.py"
CHANGELOG = "CHANGELOG.md"
MINORS = range(11, 20)  # of Python 3
VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}((a|b|rc)(0|[1-9]\d*))?")


class ReleaseError(Exception):
    """A release cannot be made; the text says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the release; returns 1 if that is not possible."""
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("version", help="like 0.2.0 or 0.3.0rc1")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="do all of it in a temporary clone of the current commit; keep only the archives",
    )
    parser.add_argument(
        "--python",
        action="append",
        metavar="FILE",
        help="build a wheel with this Python (repeatable; default: each python3.N that is found)",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="default: dist")
    options = parser.parse_args(arguments)
    try:
        with _repository(ROOT, clone=options.dry_run) as repository:
            tag = prepare(repository, options.version, datetime.datetime.now(datetime.UTC).date())
            pythons = options.python or found_pythons()
            for path in build(repository, tag, pythons, options.output):
                print(path)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.dry_run:
        print(f"dry run: this repository has no commit and no tag for {options.version}")
    else:
        print(f"push it with: git push --follow-tags origin HEAD {tag}")
    return 0


@contextlib.contextmanager
def _repository(root: Path, *, clone: bool) -> Iterator[Path]:
    if not clone:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="trio-gw-release-") as folder:
        run(["git", "clone", "--quiet", "--no-hardlinks", str(root), folder])
        for key in ("user.name", "user.email"):
            value = run(["git", "config", key], cwd=root, check=False).strip() or "dry-run"
            run(["git", "config", key, value], cwd=Path(folder))
        yield Path(folder)


def prepare(root: Path, version: str, today: datetime.date) -> str:
    """Set the version, date the changelog, commit both and tag the commit; returns the tag."""
    tag = f"v{version}"
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version} is not a version; write it like 0.2.0 or 0.3.0rc1")
    if run(["git", "status", "--porcelain"], cwd=root).strip():
        raise ReleaseError("there are changes that are not committed; commit or remove them first")
    if run(["git", "tag", "--list", tag], cwd=root).strip():
        raise ReleaseError(f"the tag {tag} exists; choose another version")
    _edit(root / VERSION_FILE, lambda text: with_version(text, version))
    _edit(root / CHANGELOG, lambda text: dated(text, version, today))
    if run(["git", "status", "--porcelain"], cwd=root).strip():
        run(["git", "commit", "--quiet", "--all", "--message", f"Release {version}"], cwd=root)
    message = f"trio-gw {version}\n\n{section(root / CHANGELOG, version)}"
    # Lines of the changelog that begin with `#` are no comments.
    command = ["git", "tag", "--annotate", "--cleanup=verbatim", "--message", message, tag]
    run(command, cwd=root)
    return tag


def _edit(path: Path, change: object) -> None:
    assert callable(change)
    path.write_text(change(path.read_text()))


def with_version(text: str, version: str) -> str:
    """Set `__version__`."""
    changed, count = re.subn(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', text)
    if count != 1:
        raise ReleaseError(f"{VERSION_FILE} has no line like __version__ = …")
    return changed


def dated(text: str, version: str, today: datetime.date) -> str:
    """Make the section *Unreleased* that of the version, unless it has one already."""
    if re.search(rf"(?m)^## \[{re.escape(version)}\]", text):
        return text
    heading = "## [Unreleased]\n"
    body = text.partition(heading)[2].partition("\n## ")[0]
    if not body.strip():
        raise ReleaseError(f"the section Unreleased of {CHANGELOG} is missing or empty")
    return text.replace(heading, f"{heading}\n## [{version}] - {today.isoformat()}\n", 1)


def section(path: Path, version: str) -> str:
    """Return what the changelog says about a version."""
    found = re.search(
        rf"(?ms)^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", path.read_text()
    )
    return found[1].strip() if found else ""


def found_pythons() -> list[str]:
    """Find the Pythons on the path that can build a wheel."""
    names = [f"python3.{minor}{suffix}" for minor in MINORS for suffix in ("", "t")]
    check = "import ensurepip, sys, venv; assert sys.version_info >= (3, 11)"
    found = []
    for path in filter(None, map(shutil.which, names)):
        done = subprocess.run([path, "-c", check], capture_output=True, check=False)
        if done.returncode == 0:  # a shim may have no Python behind it
            found.append(path)
    return found or [sys.executable]


def build(root: Path, tag: str, pythons: Sequence[str], output: Path) -> list[Path]:
    """Build the archives of a tag into `output`; returns them, `SHA256SUMS` last."""
    when = run(["git", "log", "-1", "--format=%ct", tag], cwd=root).strip()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": when, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with tempfile.TemporaryDirectory(prefix="trio-gw-build-") as name:
        folder = Path(name)
        made = folder / "made"
        made.mkdir()
        sources = folder / "sources"
        sources.mkdir()
        # What git ignores, such as extensions of this machine, does not get in.
        run(["git", "archive", "--output", str(folder / "sources.tar"), tag], cwd=root)
        _unpack(folder / "sources.tar", sources)
        pip = _pip(folder / "venv-0", pythons[0], environment)
        run([*pip, "install", "--quiet", *_build_tools(sources)], env=environment)
        hatchling = [pip[0], "-m", "hatchling", "build", "--target", "sdist"]
        run([*hatchling, "--directory", str(made)], cwd=sources, env=environment)
        (archive,) = made.glob("*.tar.gz")
        for number, python in enumerate(pythons):
            print(f"building a wheel with {python} ...", file=sys.stderr)
            if number:
                pip = _pip(folder / f"venv-{number}", python, environment)
            # One folder for all: extensions may hold the names of their sources.
            unpacked = folder / "unpacked"
            shutil.rmtree(unpacked, ignore_errors=True)
            _unpack(archive, unpacked)
            (inside,) = unpacked.iterdir()
            wheel = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(made), str(inside)]
            run(wheel, env=environment)
        archives = sorted(made.iterdir())
        lines = [
            f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}" for each in archives
        ]
        (made / "SHA256SUMS").write_text("\n".join(lines) + "\n")
        output.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(each, output)) for each in [*archives, made / "SHA256SUMS"]]


def _build_tools(sources: Path) -> list[str]:
    import tomllib

    requires: list[str] = tomllib.loads((sources / "pyproject.toml").read_text())["build-system"][
        "requires"
    ]
    return requires


def _pip(folder: Path, python: str, environment: dict[str, str]) -> list[str]:
    run([python, "-m", "venv", str(folder)], env=environment)
    return [str(folder / "bin" / "python"), "-m", "pip"]


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    check: bool = True,
) -> str:
    """Run a program; returns its output. Raises `ReleaseError` with what it wrote if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise ReleaseError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
