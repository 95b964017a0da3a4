"""Scanning a folder of projects and reading their files, for any content of the folder."""

from __future__ import annotations

import os
import shutil
import socket
import zipfile
from typing import TYPE_CHECKING

import pytest

from trio_gw.feed import project_files, walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.errors import Problem

API = b"data: {name: Echo}\n"
DEFINITION = b"asyncapi: 2.0.0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "apis"
    folder.mkdir()
    return folder


def make(folder: Path, api: bytes = API) -> Path:
    (folder / "Definitions").mkdir(parents=True)
    (folder / "api.yaml").write_bytes(api)
    (folder / "Definitions" / "asyncapi.yaml").write_bytes(DEFINITION)
    return folder


def read(root: Path, name: str) -> project_files.ProjectFiles:
    contents = project_files.read(root, name, label="apis")
    assert contents is not None
    return contents


def signature(root: Path, name: str) -> walk.Signature:
    return project_files.scan(root, label="apis").projects[name].signature


def only(problems: tuple[Problem, ...]) -> Problem:
    (problem,) = problems
    assert problem.what
    assert problem.hint
    return problem


def test_every_directory_is_a_project_but_dot_names_and_files_are_not(root: Path) -> None:
    make(root / "Echo")
    make(root / ".git")
    (root / "README.md").write_text("read me")
    listing = project_files.scan(root, label="apis")
    assert set(listing.projects) == {"Echo"}
    assert listing.root.path == str(root)


def test_a_read_returns_the_wanted_files_only(root: Path) -> None:
    make(root / "Echo")
    (root / "Echo" / "README.md").write_text("read me")
    (root / "Echo" / ".api.yaml.swp").write_text("an editor's")
    (root / "Echo" / ".cache").mkdir()
    (root / "Echo" / ".cache" / "api.yaml").write_text("hidden")
    contents = read(root, "Echo")
    assert contents.files == {"api.yaml": API, "Definitions/asyncapi.yaml": DEFINITION}
    assert contents.problems == ()
    assert contents.steady
    assert contents.signature == signature(root, "Echo")


def test_a_partial_scan_walks_only_what_it_is_asked_for(root: Path) -> None:
    make(root / "A")
    make(root / "B")
    assert set(project_files.scan(root, label="apis", only={"B", "gone"}).projects) == {"B"}


def test_a_project_that_is_not_there(root: Path) -> None:
    (root / "file").write_text("no folder")
    assert project_files.read(root, "none", label="apis") is None
    assert project_files.read(root, "file", label="apis") is None


def test_a_root_that_cannot_be_listed_raises(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        project_files.scan(root / "none", label="apis")
    with pytest.raises(FileNotFoundError):
        project_files.read(root / "none", "Echo", label="apis")
    (root / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        project_files.scan(root / "file", label="apis")


def rewrite(project: Path) -> None:
    """Change a file, as often as it takes for the clock of the file system to move on."""
    file = project / "api.yaml"
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:
        file.write_bytes(API.replace(b"Echo", b"Ohce"))


def rewrite_keeping_size_and_time(project: Path) -> None:
    before = (project / "api.yaml").stat()
    rewrite(project)
    os.utime(project / "api.yaml", ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_rename(project: Path) -> None:
    (project / "new").write_bytes(API)
    (project / "new").replace(project / "api.yaml")


def remove(project: Path) -> None:
    (project / "api.yaml").unlink()


def add(project: Path) -> None:
    (project / "deployment_environments.yaml").write_text("data: []")


def link_out(project: Path) -> None:
    (project / "docs").symlink_to("/usr")


@pytest.mark.parametrize(
    "change",
    [rewrite, rewrite_keeping_size_and_time, replace_by_rename, remove, add, link_out],
)
def test_what_changes_a_signature(root: Path, change: Callable[[Path], None]) -> None:
    make(root / "Echo")
    make(root / "Other")
    before = project_files.scan(root, label="apis").projects
    change(root / "Echo")
    after = project_files.scan(root, label="apis").projects
    assert after["Echo"].signature != before["Echo"].signature
    assert after["Other"].signature == before["Other"].signature


def test_files_that_do_not_count_change_no_signature(root: Path) -> None:
    make(root / "Echo")
    before = signature(root, "Echo")
    (root / "Echo" / "api.yaml~").write_text("an editor's")
    (root / "Echo" / "notes.txt").write_text("notes")
    assert signature(root, "Echo") == before


def test_a_link_inside_the_root_is_followed(root: Path) -> None:
    make(root / ".store" / "1")
    (root / "Echo").symlink_to(".store/1")
    make(root / "Other")
    (root / "Other" / "api.yaml").unlink()
    (root / "Other" / "api.yaml").symlink_to("../Echo/api.yaml")
    for name in ("Echo", "Other"):
        contents = read(root, name)
        assert contents.files == {"api.yaml": API, "Definitions/asyncapi.yaml": DEFINITION}
        assert contents.problems == ()
    directories = {
        place.path for place in project_files.scan(root, label="apis").projects["Other"].directories
    }
    assert str(root / ".store" / "1") in directories, (
        "edits in place happen where the file really is"
    )


def test_the_root_itself_may_be_a_link(root: Path) -> None:
    make(root / "Echo")
    (root.parent / "current").symlink_to("apis")
    listing = project_files.scan(root.parent / "current", label="apis")
    assert listing.root.path == str(root)
    assert read(root.parent / "current", "Echo").files["api.yaml"] == API


def test_a_config_map_project(root: Path) -> None:
    project = root / "Echo"
    make(project / "..2026_11_24")
    (project / "..data").symlink_to("..2026_11_24")
    (project / "api.yaml").symlink_to("..data/api.yaml")
    (project / "Definitions").symlink_to("..data/Definitions")
    assert read(root, "Echo").files["api.yaml"] == API
    assert read(root, "Echo").problems == ()
    before = signature(root, "Echo")
    make(project / "..2026_11_25", b"data: {name: New}\n")
    (project / "..data_tmp").symlink_to("..2026_11_25")
    (project / "..data_tmp").replace(project / "..data")
    assert signature(root, "Echo") != before
    assert read(root, "Echo").files["api.yaml"] == b"data: {name: New}\n"
    assert len(read(root, "Echo").files) == 2


@pytest.mark.parametrize("target", ["../../secret/api.yaml", "absolute"])
def test_a_file_link_out_of_the_root_is_refused(root: Path, target: str) -> None:
    secret = root.parent / "secret"
    make(secret, b"secret")
    make(root / "Echo")
    (root / "Echo" / "api.yaml").unlink()
    destination = str(secret / "api.yaml") if target == "absolute" else target
    (root / "Echo" / "api.yaml").symlink_to(destination)
    contents = read(root, "Echo")
    assert set(contents.files) == {"Definitions/asyncapi.yaml"}
    problem = only(contents.problems)
    assert problem.file == "apis/Echo/api.yaml"
    assert "outside the watched folder" in problem.what
    assert problem.severity == "error"


def test_a_sibling_whose_name_begins_like_the_root_is_outside(root: Path) -> None:
    make(root.parent / "apis-private")
    (root / "Echo").symlink_to("../apis-private")
    contents = read(root, "Echo")
    assert contents.files == {}
    assert "outside the watched folder" in only(contents.problems).what


def test_a_folder_link_out_of_the_root_is_skipped_with_a_warning(root: Path) -> None:
    make(root / "Echo")
    (root / "Echo" / "docs").symlink_to("/usr")
    contents = read(root, "Echo")
    assert len(contents.files) == 2
    problem = only(contents.problems)
    assert problem.file == "apis/Echo/docs"
    assert problem.severity == "warning"
    directories = project_files.scan(root, label="apis").projects["Echo"].directories
    assert all(place.path.startswith(str(root)) for place in directories)


@pytest.mark.parametrize("target", [".", "..", "../../apis", "../Echo"])
def test_circles_end(root: Path, target: str) -> None:
    make(root / "Echo")
    (root / "Echo" / "again").symlink_to(target)
    contents = read(root, "Echo")
    assert set(contents.files) == {"api.yaml", "Definitions/asyncapi.yaml"}
    assert "a folder above it" in only(contents.problems).what


def test_a_web_of_links_ends(root: Path) -> None:
    make(root / "Echo")
    names = [f"d{index}" for index in range(12)]
    for name in names:
        (root / "Echo" / name).mkdir()
        for other in names:
            (root / "Echo" / name / other).symlink_to(f"../{other}")
    contents = read(root, "Echo")
    assert any("more than 10000" in problem.what for problem in contents.problems)


@pytest.mark.parametrize("target", ["nowhere", "api.yaml"])
def test_a_link_that_leads_nowhere(root: Path, target: str) -> None:
    make(root / "Echo")
    (root / "Echo" / "api.yaml").unlink()
    (root / "Echo" / "api.yaml").symlink_to(target)
    problem = only(read(root, "Echo").problems)
    assert problem.file == "apis/Echo/api.yaml"
    assert "broken link" in problem.what
    assert problem.severity == "error"


def test_a_project_link_that_leads_nowhere(root: Path) -> None:
    (root / "Echo").symlink_to("nowhere")
    assert set(project_files.scan(root, label="apis").projects) == {"Echo"}
    assert only(read(root, "Echo").problems).file == "apis/Echo"


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def make_link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


@pytest.mark.parametrize("special", [make_fifo, make_socket, make_link_to_fifo])
def test_what_is_no_regular_file_is_never_opened(
    root: Path, special: Callable[[Path], None]
) -> None:
    make(root / "Echo")
    (root / "Echo" / "api.yaml").unlink()
    special(root / "Echo" / "api.yaml")
    contents = read(root, "Echo")
    assert set(contents.files) == {"Definitions/asyncapi.yaml"}
    assert "not a regular file" in only(contents.problems).what
    assert contents.steady


def test_a_folder_in_place_of_a_file(root: Path) -> None:
    make(root / "Echo")
    (root / "Echo" / "api.yaml").unlink()
    (root / "Echo" / "api.yaml").mkdir()
    assert set(read(root, "Echo").files) == {"Definitions/asyncapi.yaml"}


def test_a_huge_file_is_read_one_octet_over_the_limit(root: Path) -> None:
    make(root / "Echo")
    with open(root / "Echo" / "api.yaml", "wb") as file:
        file.truncate(1 << 40)  # sparse
    contents = read(root, "Echo")
    assert len(contents.files["api.yaml"]) == project_files.FILE_BYTES + 1
    assert contents.steady


def test_a_project_of_many_large_files_is_cut(root: Path) -> None:
    make(root / "Echo")
    for index in range(10):
        (root / "Echo" / f"part{index}").mkdir()
        with open(root / "Echo" / f"part{index}" / "api.yaml", "wb") as file:
            file.truncate(project_files.FILE_BYTES)
    contents = read(root, "Echo")
    assert sum(map(len, contents.files.values())) <= project_files.PROJECT_BYTES
    assert "more than 16 MiB" in only(contents.problems).what


def test_as_many_entries_as_allowed_are_read_and_one_more_is_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer than 10,000, the number that the test of the web of links reaches."""
    monkeypatch.setattr(walk, "ENTRIES", 200)
    make(root / "Echo")  # three entries: api.yaml, Definitions and what is in it
    (root / "Echo" / "many").mkdir()
    for index in range(walk.ENTRIES - 4):
        (root / "Echo" / "many" / str(index)).touch()
    assert read(root, "Echo").problems == ()
    (root / "Echo" / "many" / "one more").touch()
    problem = only(read(root, "Echo").problems)
    assert problem.file == "apis/Echo"
    assert f"more than {walk.ENTRIES}" in problem.what
    assert problem.severity == "error"


def test_deep_folders_are_not_entered(root: Path) -> None:
    make(root / "Echo")
    deep = root / "Echo"
    for _ in range(walk.DEPTH - 1):
        deep = deep / "d"
    make(deep)
    assert len(read(root, "Echo").files) == 3
    (deep / "Definitions" / "deeper").mkdir()
    problem = only(read(root, "Echo").problems)
    assert "deeper than 16" in problem.what
    assert problem.severity == "warning"


def test_names_that_are_not_utf8(root: Path) -> None:
    make(root / "Echo")
    os.close(os.open(os.fsencode(root / "Echo") + b"/\xff.yaml", os.O_CREAT | os.O_WRONLY))
    os.mkdir(os.fsencode(root) + b"/\xfe")
    listing = project_files.scan(root, label="apis")
    problems = [problem for seen in listing.projects.values() for problem in seen.signature[1]]
    assert [problem.file for problem in problems] == ["apis/Echo", "apis/\\xfe"]
    for problem in problems:
        str(problem).encode()
    assert len(read(root, "Echo").files) == 2


def test_a_name_with_a_newline_is_a_name(root: Path) -> None:
    make(root / "Ec\nho\x1b[31m")
    assert read(root, "Ec\nho\x1b[31m").files["api.yaml"] == API


def zipped(folder: Path, target: Path, top: str = "") -> None:
    """Pack a folder into a zip, below a top folder if one is named."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, os.path.join(top, path.relative_to(folder)))


@pytest.mark.parametrize("top", ["", "Chat-1.0.0", "a/b/c"])
def test_a_zip_is_a_project(root: Path, tmp_path: Path, top: str) -> None:
    make(tmp_path / "Chat")
    make(root / "folder.zip")
    zipped(tmp_path / "Chat", root / "Chat.ZIP", top)
    listing = project_files.scan(root, label="apis")
    assert set(listing.projects) == {"Chat.ZIP", "folder.zip"}
    contents = read(root, "Chat.ZIP")
    assert contents.problems == ()
    assert contents.signature == listing.projects["Chat.ZIP"].signature
    prefix = f"{top}/" if top else ""
    assert contents.files == {
        f"{prefix}{path}": data for path, data in read(root, "folder.zip").files.items()
    }


def test_a_broken_zip_is_a_problem(root: Path) -> None:
    (root / "Chat.zip").write_bytes(b"PK\x03\x04 and then nothing")
    contents = read(root, "Chat.zip")
    assert contents.files == {}
    problem = only(contents.problems)
    assert problem.file == "apis/Chat.zip"


def test_a_zip_changes_with_its_file(root: Path, tmp_path: Path) -> None:
    make(tmp_path / "Chat")
    zipped(tmp_path / "Chat", root / "Chat.zip")
    before = signature(root, "Chat.zip")
    assert signature(root, "Chat.zip") == before
    zipped(tmp_path / "Chat", root / "Chat.zip", "top")
    assert signature(root, "Chat.zip") != before


def test_links_to_zips(root: Path, tmp_path: Path) -> None:
    make(tmp_path / "Chat")
    zipped(tmp_path / "Chat", root / ".kept.zip")
    zipped(tmp_path / "Chat", tmp_path / "outside.zip")
    (root / "Chat.zip").symlink_to(".kept.zip")
    (root / "Out.zip").symlink_to(tmp_path / "outside.zip")
    (root / "plain").symlink_to(".kept.zip")
    assert set(project_files.scan(root, label="apis").projects) == {"Chat.zip", "Out.zip"}
    assert len(read(root, "Chat.zip").files) == 2
    contents = read(root, "Out.zip")
    assert contents.files == {}
    assert "outside the watched" in only(contents.problems).what


def test_a_file_that_changed_since_the_walk_is_not_steady(root: Path) -> None:
    make(root / "Echo")
    seen = walk.walk_project(walk.directory_id(str(root)), "Echo", "apis")
    assert seen is not None
    first, second = seen.files
    assert project_files._read_file(first) is not None
    rewrite_keeping_size_and_time(root / "Echo")
    (root / "Echo" / "Definitions" / "asyncapi.yaml").unlink()
    os.mkfifo(root / "Echo" / "Definitions" / "asyncapi.yaml")
    assert project_files._read_file(first) is None
    assert project_files._read_file(second) is None
    shutil.rmtree(root / "Echo")
    assert project_files._read_file(first) is None
