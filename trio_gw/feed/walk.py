"""Walk the directory of one project and record the files that the loader needs.

Called by `feed.project_files`. Opens directories only, one at a time. The depth and the number of
entries are bounded, links out of the root are not followed, and circular links end. Faults are
reported as problems, never raised.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config.project import wanted
from trio_gw.errors import Problem
from trio_gw.watch.directory_id import DirectoryId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

DEPTH = 16  # levels of directories in a project; exports of API Manager use three
ENTRIES = 10_000  # directory entries of one project, including names with a leading dot

# Identifies one state of a file. It includes the change time because copies can keep size and
# modification time, and because a file may become readable.
FileMark = tuple[str, int, int, int, int]
Signature = tuple[tuple[FileMark, ...], tuple[Problem, ...]]


class FoundFile(NamedTuple):
    """A needed regular file: its path in the project, its real path, its state."""

    path: str
    real: str
    mark: FileMark


class ProjectWalk:
    """The result of one walk. If `zipped`, the project is a zip and `files` has only that file."""

    def __init__(self, root: DirectoryId, label: str) -> None:
        self.root = root
        self.label = label
        self.zipped = False
        self.files: list[FoundFile] = []
        self.directories: set[DirectoryId] = set()
        self.problems: list[Problem] = []
        self._entries = 0
        self._full = False

    def signature(self) -> Signature:
        """Return the state of everything found, for comparison with `==`."""
        return tuple(found.mark for found in self.files), tuple(self.problems)

    def report(
        self, path: str, what: str, hint: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        """Record a problem of a path inside the project; an empty path means the project."""
        file = f"{self.label}/{path}" if path else self.label
        self.problems.append(Problem(file, 0, 0, what, hint, severity))

    def resolve(self, path: str, inside: str) -> str | None:
        """Return the target of a link; None, and a problem, if it is broken or outside the root."""
        severity: Literal["error", "warning"]
        severity = "error" if not inside or wanted(inside) else "warning"
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as error:
            what = f"is a broken link ({os.strerror(error.errno or 0)})"
            self.report(inside, what, "correct the link or remove it", severity)
            return None
        if not real.startswith(self.root.path.rstrip("/") + "/") and real != self.root.path:
            what = "is a link to a path outside the watched folder, so it is not followed"
            hint = (
                "copy its target into the watched folder, or make the whole watched folder a link"
            )
            self.report(inside, what, hint, severity)
            return None
        return real

    def descend(self, path: str, inside: str, above: Sequence[DirectoryId]) -> None:
        """Walk the real directory `path`, which is `inside` in the project."""
        try:
            place = directory_id(path)
            if any(place[1:] == other[1:] for other in above):
                what = "is a link to a folder above it, so it is not followed"
                self.report(inside, what, "remove the link", "warning")
                return
            with os.scandir(path) as entries:
                children = list(itertools.islice(entries, ENTRIES + 1 - self._entries))
        except FileNotFoundError:
            return  # It was removed during the walk. The next scan sees the new state.
        except OSError as error:
            self.report(inside, *unreadable(error))
            return
        self.directories.add(place)
        self._entries += len(children)
        if self._entries > ENTRIES:
            if not self._full:
                self._full = True
                self.report("", f"has more than {ENTRIES} files and folders", "remove some")
            return
        for entry in sorted(children, key=lambda entry: entry.name):
            if self._full:
                return
            if entry.name.startswith("."):
                continue
            if not is_utf8(entry.name):
                what = f"has a file with a name that is not UTF-8: {text(entry.name)}"
                self.report(inside, what, "rename the file", "warning")
                continue
            self._entry(entry, f"{inside}/{entry.name}" if inside else entry.name, (*above, place))

    def _entry(self, entry: os.DirEntry[str], inside: str, above: Sequence[DirectoryId]) -> None:
        try:
            linked = entry.is_symlink()
            real = self.resolve(entry.path, inside) if linked else entry.path
            if real is None:
                return
            folder = os.path.isdir(real) if linked else entry.is_dir(follow_symlinks=False)
            if folder and len(above) > DEPTH:
                what = f"is nested deeper than {DEPTH} folders, so it is not read"
                self.report(inside, what, "move it to a higher folder", "warning")
            elif folder:
                self.descend(real, inside, above)
            elif wanted(inside):
                self._file(real, inside, linked=linked)
        except FileNotFoundError:
            return

    def _file(self, real: str, inside: str, *, linked: bool) -> None:
        state = os.lstat(real)
        if not stat.S_ISREG(state.st_mode):
            self.report(
                inside, "is not a regular file, so it is not opened", "replace it with a file"
            )
            return
        if linked:  # Changes in place cause events in the real directory only.
            self.directories.add(directory_id(os.path.dirname(real)))
        self.files.append(FoundFile(inside, real, file_mark(inside, state)))


def is_zip(name: str) -> bool:
    """Return whether a file with this name is a zipped project."""
    return name.lower().endswith(".zip")


def walk_project(root: DirectoryId, name: str, label: str) -> ProjectWalk | None:
    """Walk the project `name` of `root`; None if there is no such project."""
    walk = ProjectWalk(root, f"{label}/{text(name)}")
    link = os.path.join(root.path, name)
    path: str | None = link
    try:
        state = os.lstat(link)
        if stat.S_ISLNK(state.st_mode):
            if os.path.exists(link) and not os.path.isdir(link) and not is_zip(name):
                return None  # a link to a file is not a project
            path = walk.resolve(link, "")
            state = os.lstat(path or link)
        walk.zipped = stat.S_ISREG(state.st_mode) and is_zip(name)
        if not (walk.zipped or stat.S_ISDIR(state.st_mode) or path is None):
            return None
    except FileNotFoundError:
        return None
    if not is_utf8(name):
        walk.report("", "has a name that is not UTF-8, so it is not read", "rename it")
    elif path is not None and walk.zipped:
        walk.files.append(FoundFile("", path, file_mark("", state)))
        if path != link:  # Changes in place cause events in the real directory only.
            walk.directories.add(directory_id(os.path.dirname(path)))
    elif path is not None:
        walk.descend(path, "", (root,))
    return walk


def file_mark(path: str, state: os.stat_result) -> FileMark:
    return path, state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


def directory_id(path: str) -> DirectoryId:
    state = os.stat(path)
    return DirectoryId(path, state.st_dev, state.st_ino)


def unreadable(error: OSError) -> tuple[str, str]:
    return f"cannot be read ({os.strerror(error.errno or 0)})", access_hint(error)


def access_hint(error: OSError) -> str:
    """Return a hint how to make a file or folder readable."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (LimitNOFILE, ulimit -n)"
    return "give the gateway's user read access"


def is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def text(name: str) -> str:
    """Return a name that can be encoded: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
