"""Which relay is in use: compiled from these very sources, or these sources themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trio_gw
from trio_gw import compiled
from trio_gw.guard import counter
from trio_gw.relay import epoll_loop, lane

PACKAGE = Path(trio_gw.__file__).parent


def relay_of(folder: Path, **environment: str) -> str:
    """Ask the package in `folder` which relay it would use."""
    ask = "from trio_gw import compiled; print('compiled' if compiled.in_use() else 'pure')"
    return python(folder, "-c", ask, **environment).strip()


def python(folder: Path, *arguments: str, **environment: str) -> str:
    """Run Python on the package in `folder`; returns what it prints."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, compiled.PURE: "", "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of the package, whose compiled files need not be able to run."""
    shutil.copytree(PACKAGE, tmp_path / "trio_gw", ignore=shutil.ignore_patterns("_compiled"))
    (tmp_path / "trio_gw" / "_compiled").mkdir()
    for path in compiled.files().values():
        (tmp_path / "trio_gw" / "_compiled" / path.name).write_bytes(b"not needed to be found")
    return tmp_path


def test_compiled_files_of_these_sources_are_used(copied: Path) -> None:
    assert relay_of(copied) == "compiled"


@pytest.mark.parametrize("source", compiled.SOURCES)
def test_compiled_files_of_other_sources_are_left_alone(copied: Path, source: str) -> None:
    with (copied / "trio_gw" / source).open("a") as file:
        file.write("# changed\n")
    assert relay_of(copied) == "pure"


def test_one_compiled_file_is_not_enough(copied: Path) -> None:
    (copied / "trio_gw" / "_compiled" / next(iter(compiled.files().values())).name).unlink()
    assert relay_of(copied) == "pure"


def test_without_what_would_be_compiled(copied: Path) -> None:
    (copied / "trio_gw" / "relay" / "epoll_loop.pxd").unlink()
    assert relay_of(copied) == "pure"


def test_pure_by_wish(copied: Path) -> None:
    assert relay_of(copied, **{compiled.PURE: "1"}) == "pure"
    assert relay_of(copied, **{compiled.PURE: "0"}) == "compiled"


def test_these_tests_use_what_is_said_to_be_in_use() -> None:
    for module in (lane, epoll_loop, counter):
        assert (Path(str(module.__file__)).suffix != ".py") is compiled.in_use()


def test_the_command_says_it(copied: Path) -> None:
    pure = {compiled.PURE: "1"}
    words = python(copied, "-m", "trio_gw", "version", **pure)
    assert words.startswith(f"trio-gw {trio_gw.__version__}, Python 3.")
    assert words.endswith("relay: pure (TRIO_GW_PURE is set)\n")
    about = json.loads(python(copied, "-m", "trio_gw", "version", "--json", **pure))
    assert (about["version"], about["relay"]) == (trio_gw.__version__, "pure")
    (copied / "trio_gw" / "relay" / "epoll_loop.pxd").unlink()
    assert "relay: pure (nothing was compiled" in python(copied, "-m", "trio_gw", "version")
