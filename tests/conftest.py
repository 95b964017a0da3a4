"""Fixtures for tests that talk to a running gateway."""

from __future__ import annotations

import datetime
import shutil
from typing import TYPE_CHECKING

import pytest

from trio_gw.guard.certificates import ensure_certificate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def own_certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway's self-signed certificate, made once: an RSA key takes a while."""
    folder = tmp_path_factory.mktemp("certs")
    made = ensure_certificate(
        folder / "mg.pem", folder / "mg.key", datetime.datetime.now(datetime.UTC)
    )
    assert made
    return folder


@pytest.fixture
def base(tmp_path: Path, own_certs: Path) -> Path:
    """A folder for one gateway: `apis/` empty, `certs/` with its own certificate."""
    (tmp_path / "apis").mkdir()
    shutil.copytree(own_certs, tmp_path / "certs")
    return tmp_path
