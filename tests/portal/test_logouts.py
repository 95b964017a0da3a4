"""The list of ended sessions, shared by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.portal.logouts import NAME, Logouts
from trio_gw.portal.session_token import LONGEST

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NOW = 1_800_000_000.0


async def test_an_end_holds_in_all_workers_and_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "portal"
    one, other = Logouts(folder), Logouts(folder)
    assert not await other.has("a")
    await one.add("a", NOW)
    await other.add("b", NOW)
    for logouts in (one, other, Logouts(folder)):
        assert [await logouts.has(session) for session in "abc"] == [True, True, False]
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [NAME, f"{NAME}.lock"]


async def test_what_would_have_ended_by_itself_is_forgotten(tmp_path: Path) -> None:
    logouts = Logouts(tmp_path)
    await logouts.add("old", NOW)
    await logouts.add("new", NOW + LONGEST + 1)
    assert (tmp_path / NAME).read_text().split()[::2] == ["new"]
    assert not await logouts.has("old")


async def test_without_a_place_the_list_is_that_of_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    logouts = Logouts(tmp_path / "file" / "portal")
    await logouts.add("secret-id", NOW)
    assert await logouts.has("secret-id")
    assert not await logouts.has("b")
    assert "a log-out holds in this worker only" in caplog.text
    assert "secret-id" not in caplog.text


async def test_nonsense_in_the_file(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff\n\na\nb x\nc 1900000000\n")
    logouts = Logouts(tmp_path)
    assert [await logouts.has(session) for session in "abc"] == [False, False, True]
