"""`trio-gw convert`: settings on standard output or in a new file, the rest on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.commands import gw

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
[router]
listenerHost = "127.0.0.1"
systemHost = "localhost"
[[enforcer.jwtIssuer.jwtUser]]
username = "someone"
password = "correct horse"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "apis").mkdir()
    return tmp_path


def test_to_standard_output(folder: Path) -> None:
    done = gw(folder, "convert", "config.toml")
    assert done.returncode == 0
    assert 'http = "127.0.0.1:9090"' in done.stdout
    assert 'password = "correct horse"' in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("config.toml:3: warning: router.systemHost has no meaning here; ")
    (folder / "gateway.toml").write_text(done.stdout)
    checked = gw(folder, "check")
    assert (checked.returncode, checked.stderr[:5]) == (0, "fine:")


def test_to_a_new_file(folder: Path) -> None:
    done = gw(folder, "convert", "config.toml", "--output", "gateway.toml")
    assert (done.returncode, done.stdout) == (0, "")
    made = folder / "gateway.toml"
    assert made.stat().st_mode & 0o777 == 0o600
    assert 'username = "someone"' in made.read_text()
    again = gw(folder, "convert", "config.toml", "--output", "gateway.toml")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("gateway.toml: the file exists already; ")


@pytest.mark.parametrize(
    "data", [None, b"\xff\xfe", b"a = ", b"#" * 1_100_000, b"a" + b".b" * 1500 + b" = 1"]
)
def test_faults(folder: Path, data: bytes | None) -> None:
    if data is not None:
        (folder / "bad.toml").write_bytes(data)
    done = gw(folder, "convert", "bad.toml", "--output", "out.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bad.toml")
    assert not (folder / "out.toml").exists()
