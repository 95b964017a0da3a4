"""The commands know `[control_plane]`: what it needs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from support.commands import gw

if TYPE_CHECKING:
    from pathlib import Path

TABLE = """
[control_plane]
url = "https://localhost:9443/"
password = "s3cret"
events = ["amqp://gw:s3cret@localhost:5672/"]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with settings and without projects."""
    (tmp_path / "apis").mkdir()
    (tmp_path / "gateway.toml").write_text(TABLE)
    return tmp_path


@pytest.fixture
def without_library(tmp_path: Path) -> str:
    """A folder whose `sitecustomize` hides the library from a command."""
    (tmp_path / "shadow").mkdir()
    hide = "import sys\nsys.modules['pamqp'] = None\n"
    (tmp_path / "shadow" / "sitecustomize.py").write_text(hide)
    return str(tmp_path / "shadow")


def test_check_has_nothing_against_good_settings(base: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(base / "ca.pem"))
    with (base / "gateway.toml").open("a") as settings:
        settings.write('ca = "ca.pem"\n')
    done = gw(base, "check", "--strict")
    assert (done.returncode, done.stderr.startswith("fine: ")) == (0, True), done.stderr
    assert not (base / "controlplane").exists()


def test_check_names_all_that_is_missing(base: Path, without_library: str) -> None:
    (base / "data").write_text("")
    with (base / "gateway.toml").open("a") as settings:
        settings.write('ca = "ca.pem"\ncache = "data/controlplane"\n')
    done = gw(base, "check", PYTHONPATH=without_library)
    assert done.returncode == 1
    assert "pamqp is not installed; run: pip install 'trio-gw[control-plane]'" in done.stderr
    assert "ca.pem: control_plane.ca" in done.stderr
    assert "control_plane.cache: data is not a folder" in done.stderr
    assert "3 errors" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_the_library_the_gateway_does_not_start(
    workers: str, base: Path, without_library: str
) -> None:
    done = gw(base, "run", PYTHONPATH=without_library, TRIO_GW_WORKERS=workers)
    assert done.returncode == 1
    said = "control_plane.url is set, but pamqp is not installed; run: pip install"
    assert said in done.stderr
    assert "Traceback" not in done.stderr
