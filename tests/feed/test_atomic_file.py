"""Files that are replaced in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_gw.feed.atomic_file import TEMPORARY, file_version, replacing, temporary_path

if TYPE_CHECKING:
    from pathlib import Path


def test_readers_see_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new content")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new content"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "index.json"
    path.write_bytes(b"old")
    before = file_version(path)

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"old"
    assert file_version(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_of_equal_content_is_another_version(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_bytes(b"same")
    before = file_version(path)
    with replacing(path) as file:
        file.write(b"same")
    assert file_version(path) != before


def test_temporary_paths_are_recognizable_and_different(tmp_path: Path) -> None:
    first, second = temporary_path(tmp_path), temporary_path(tmp_path)
    assert first != second
    assert first.parent == tmp_path
    assert first.name.startswith(TEMPORARY)
