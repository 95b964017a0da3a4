"""One pass over a project's names: the files, directories and problems it finds.

`test_project_files` tests the results: links, circles, limits, files that are not regular.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from trio_gw.feed import walk
from trio_gw.feed.walk import ProjectWalk, directory_id, walk_project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "apis"
    folder.mkdir()
    return folder


def make(folder: Path) -> Path:
    (folder / "Definitions").mkdir(parents=True)
    (folder / "Definitions" / "asyncapi.yaml").write_bytes(b"a: 1")
    (folder / "api.yaml").write_bytes(b"b: 2")
    (folder / "Docs").mkdir()
    (folder / "Docs" / "read.me").write_bytes(b"c")
    (folder / ".git").mkdir()
    (folder / ".git" / "api.yaml").write_bytes(b"d")
    return folder


def walked(root: Path, name: str) -> ProjectWalk:
    found = walk_project(directory_id(str(root)), name, "apis")
    assert found is not None
    return found


def test_it_finds_wanted_files_in_a_fixed_order_and_every_folder(root: Path) -> None:
    project = make(root / "Echo")
    found = walked(root, "Echo")
    assert [each.path for each in found.files] == ["Definitions/asyncapi.yaml", "api.yaml"]
    assert [each.real for each in found.files] == [str(project / each.path) for each in found.files]
    seen = {place.path for place in found.directories}
    assert seen == {str(project), str(project / "Definitions"), str(project / "Docs")}
    assert not found.problems
    assert not found.zipped


def test_a_mark_tells_states_apart(root: Path) -> None:
    project = make(root / "Echo")
    before = walked(root, "Echo").signature()
    assert walked(root, "Echo").signature() == before
    state = (project / "api.yaml").stat()
    (project / "api.yaml").write_bytes(b"b: 3")  # same size
    os.utime(project / "api.yaml", ns=(state.st_atime_ns, state.st_mtime_ns))  # same time
    assert walked(root, "Echo").signature() != before


@pytest.mark.parametrize(
    ("name", "zipped"),
    [("a.zip", True), ("A.ZIP", True), ("a.zip.bak", False), ("azip", False), ("a", False)],
)
def test_files_that_are_projects(root: Path, name: str, zipped: bool) -> None:
    (root / name).write_bytes(b"PK")
    assert walk.is_zip(name) == zipped
    found = walk_project(directory_id(str(root)), name, "apis")
    if not zipped:
        assert found is None
        return
    assert found is not None
    assert found.zipped
    assert [(each.path, each.real) for each in found.files] == [("", str(root / name))]
    assert found.directories == set()  # the root is watched anyway


def test_a_folder_named_like_a_zip_is_a_folder(root: Path) -> None:
    make(root / "a.zip")
    found = walked(root, "a.zip")
    assert not found.zipped
    assert len(found.files) == 2


def test_a_linked_zip_names_the_folder_where_it_really_is(root: Path) -> None:
    (root / ".store").mkdir()
    (root / ".store" / "real").write_bytes(b"PK")
    (root / "a.zip").symlink_to(root / ".store" / "real")
    found = walked(root, "a.zip")
    assert found.zipped
    assert {place.path for place in found.directories} == {str(root / ".store")}


def test_what_is_not_there(root: Path) -> None:
    assert walk_project(directory_id(str(root)), "Gone", "apis") is None
    os.mkfifo(root / "pipe.zip")
    assert walk_project(directory_id(str(root)), "pipe.zip", "apis") is None


def test_a_place_is_told_by_device_and_inode(root: Path) -> None:
    first = directory_id(str(root))
    (root.parent / "link").symlink_to(root)
    assert directory_id(str(root.parent / "link"))[1:] == first[1:]
    root.rename(root.parent / "other")
    root.mkdir()
    assert directory_id(str(root))[1:] != first[1:]


def test_problems_name_the_path_inside_and_their_weight(root: Path) -> None:
    found = ProjectWalk(directory_id(str(root)), "apis/Echo")
    found.report("", "is odd", "fix it")
    found.report("a/b", "is odd", "fix it", "warning")
    assert [(each.file, each.severity) for each in found.problems] == [
        ("apis/Echo", "error"),
        ("apis/Echo/a/b", "warning"),
    ]
    assert found.signature() == ((), tuple(found.problems))


def test_names_of_octets() -> None:
    name = os.fsdecode(b"caf\xe9")
    assert not walk.is_utf8(name)
    assert walk.is_utf8("café")
    assert walk.text(name) == "caf\\xe9"
    assert walk.text("café") == "café"


def test_what_the_system_says_of_a_file() -> None:
    what, hint = walk.unreadable(PermissionError(13, "no", "secret/path"))
    assert what == "cannot be read (Permission denied)"
    assert hint


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "user read access"),
        (errno.EMFILE, "limit of open files"),
        (errno.ENFILE, "limit"),
    ],
)
def test_the_remedy_fits_the_fault(number: int, words: str) -> None:
    assert words in walk.access_hint(OSError(number, "x"))
    assert words in walk.unreadable(OSError(number, "x"))[1]
