"""The file with the projects served first: replaced as a whole, read by others, optional."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from trio_gw.feed.precedence import FILE, Precedence
from trio_gw.routing.conflicts import Claim, Holder

if TYPE_CHECKING:
    from pathlib import Path

HELD = {
    Claim("localhost", "base", "/chat/1.0.0"): Holder("apis", "chat", "o", "id"),
    Claim("localhost", "id", "id"): Holder("apis", "chat", "o", "id"),
    Claim("localhost", "id", "other"): Holder("git", "other", "o", "other"),
}


def test_what_is_written_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Precedence(tmp_path / "deployed", "deployed", writer="one")
    assert writer.version() is None
    assert writer.read(first=True) == {}
    writer.write(HELD)
    mark = writer.version()
    assert writer.read(first=False) == HELD
    writer.write({})
    assert writer.version() != mark
    assert writer.read(first=False) == {}
    assert [each.name for each in (tmp_path / "deployed").iterdir()] == [FILE]
    assert caplog.records == []


def test_another_gateways_file_counts_at_the_start_only(tmp_path: Path) -> None:
    Precedence(tmp_path, "deployed", writer="one").write(HELD)
    other = Precedence(tmp_path, "deployed", writer="two", decides=False)
    assert other.read(first=True) == HELD
    assert other.read(first=False) == {}


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"holders": 1}', b"\xff", b'{"x": 1}'])
def test_damage_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / FILE).write_bytes(data)
    precedence = Precedence(tmp_path, "deployed")
    for _ in range(2):
        assert precedence.read(first=True) == {}
    (record,) = caplog.records
    assert f"deployed/{FILE} is damaged" in record.getMessage()
    precedence.write(HELD)
    assert precedence.read(first=True) == HELD


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "deployed").write_text("a file")
    precedence = Precedence(tmp_path / "deployed", "deployed")
    for _ in range(2):
        precedence.write(HELD)
    (record,) = caplog.records
    assert "cannot be written" in record.getMessage()
    assert precedence.read(first=True) == {}
