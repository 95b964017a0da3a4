"""Single lines of the file with the deny conditions are added and removed; the rest stays."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from trio_gw.admin import denial_file
from trio_gw.config.conditions import condition

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = b"# ours\naddress=203.0.113.0/24      # a flood\n\nuser=mallory@carbon.super"


def test_a_line_is_added_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "denied.txt"
    path.write_bytes(BEFORE)
    path.chmod(0o604)
    made = condition("address", "10.0.0.7", reason="from the portal")
    denial_file.add(path, made)
    assert path.read_bytes() == BEFORE + b"\naddress=10.0.0.7  # from the portal\n"
    denial_file.add(path, condition("address", "10.0.0.7", reason="again"))
    assert path.read_bytes() == BEFORE + b"\naddress=10.0.0.7  # again\n"
    assert path.stat().st_mode & 0o777 == 0o604
    assert denial_file.remove(path, made.meaning)
    assert not denial_file.remove(path, made.meaning)
    assert path.read_bytes() == BEFORE + b"\n"
    assert denial_file.remove(path, ("address", "203.0.113.0/24", False))
    assert path.read_bytes() == b"# ours\n\nuser=mallory@carbon.super\n"
    assert os.listdir(tmp_path) == ["denied.txt"]


def test_a_missing_file_is_made_and_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "denied.txt"
    path.symlink_to("real/denied.txt")
    denial_file.add(path, condition("address", "10.0.0.0/8", invert=True))
    assert path.is_symlink()
    assert (tmp_path / "real" / "denied.txt").read_text() == "address=!10.0.0.0/8\n"


@pytest.mark.parametrize("reason", ["two\nlines", "a \x00 b", "bad \ud800"])
def test_a_line_cannot_hold_another(tmp_path: Path, reason: str) -> None:
    path = tmp_path / "denied.txt"
    with pytest.raises(ValueError, match="one line"):
        denial_file.add(path, condition("user", "eve", reason=reason))
    with pytest.raises(ValueError, match="one line"):
        denial_file.add(path, condition("application", "eve:a #b"))
    assert not path.exists()


def test_writers_do_not_lose_lines_of_others(tmp_path: Path) -> None:
    path = tmp_path / "denied.txt"

    def write(first: int) -> None:
        for last in range(20):
            denial_file.add(path, condition("address", f"10.0.{first}.{last}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(path.read_text().splitlines()) == 60


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(denial_file.UnwritableError, match="certs cannot be opened"):
        denial_file.add(tmp_path / "certs" / "denied.txt", condition("user", "eve"))
