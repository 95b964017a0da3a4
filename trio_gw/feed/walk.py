"""One pass over the names of a project in a folder; opens directories only, one at a time.

Called by `feed.store`. Bounded in depth and entries; no link is followed out of the root, and
circles end. What is wrong is reported, never raised.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config.project import wanted
from trio_gw.errors import Problem
from trio_gw.watch.directories import Place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

DEPTH = 16  # levels of directories in a project; exports of API Manager use three
ENTRIES = 10_000  # directory entries of one project, dot-names included

# What tells one state of a file from another. The change time is there for copies that keep
# size and modification time, and for a file that becomes readable again.
Mark = tuple[str, int, int, int, int]
Signature = tuple[tuple[Mark, ...], tuple[Problem, ...]]


class Found(NamedTuple):
    """A wanted regular file: its path in the project, its real path, its state."""

    path: str
    real: str
    mark: Mark


class Walk:
    """What one pass saw. `zipped` says that the project is a zip: `files` holds just that."""

    def __init__(self, root: Place, label: str) -> None:
        self.root = root
        self.label = label
        self.zipped = False
        self.files: list[Found] = []
        self.places: set[Place] = set()
        self.problems: list[Problem] = []
        self._entries = 0
        self._full = False

    def signature(self) -> Signature:
        """Return the state of everything seen; compare it with `==`."""
        return tuple(found.mark for found in self.files), tuple(self.problems)

    def report(
        self, path: str, what: str, hint: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        """Note a problem with a path inside the project; an empty path is the project."""
        file = f"{self.label}/{path}" if path else self.label
        self.problems.append(Problem(file, 0, 0, what, hint, severity))

    def resolve(self, path: str, inside: str) -> str | None:
        """Follow a link; None, and a problem, if it leads nowhere or out of the root."""
        severity: Literal["error", "warning"]
        severity = "error" if not inside or wanted(inside) else "warning"
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as error:
            what = f"is a link that leads nowhere ({os.strerror(error.errno or 0)})"
            self.report(inside, what, "make it point to a file or remove it", severity)
            return None
        if not real.startswith(self.root.path.rstrip("/") + "/") and real != self.root.path:
            what = "is a link that leads out of the watched folder, so it is not followed"
            hint = (
                "copy what it points to into the watched folder, or make the watched folder itself"
            )
            hint += " the link"
            self.report(inside, what, hint, severity)
            return None
        return real

    def descend(self, path: str, inside: str, above: Sequence[Place]) -> None:
        """Walk the real directory `path`, called `inside` in the project."""
        try:
            place = place_of(path)
            if any(place[1:] == other[1:] for other in above):
                what = "is a link into a folder above it, a circle, so it is not followed"
                self.report(inside, what, "remove the link", "warning")
                return
            with os.scandir(path) as entries:
                children = list(itertools.islice(entries, ENTRIES + 1 - self._entries))
        except FileNotFoundError:
            return  # It went away between two looks: the next one sees the rest.
        except OSError as error:
            self.report(inside, *unreadable(error))
            return
        self.places.add(place)
        self._entries += len(children)
        if self._entries > ENTRIES:
            if not self._full:
                self._full = True
                self.report("", f"holds more than {ENTRIES} files and folders", "remove some")
            return
        for entry in sorted(children, key=lambda entry: entry.name):
            if self._full:
                return
            if entry.name.startswith("."):
                continue
            if not is_utf8(entry.name):
                what = f"holds a file whose name is not UTF-8: {text(entry.name)}"
                self.report(inside, what, "rename the file", "warning")
                continue
            self._entry(entry, f"{inside}/{entry.name}" if inside else entry.name, (*above, place))

    def _entry(self, entry: os.DirEntry[str], inside: str, above: Sequence[Place]) -> None:
        try:
            linked = entry.is_symlink()
            real = self.resolve(entry.path, inside) if linked else entry.path
            if real is None:
                return
            folder = os.path.isdir(real) if linked else entry.is_dir(follow_symlinks=False)
            if folder and len(above) > DEPTH:
                what = f"is nested deeper than {DEPTH} folders, so it is not read"
                self.report(inside, what, "move it up", "warning")
            elif folder:
                self.descend(real, inside, above)
            elif wanted(inside):
                self._file(real, inside, linked=linked)
        except FileNotFoundError:
            return

    def _file(self, real: str, inside: str, *, linked: bool) -> None:
        state = os.lstat(real)
        if not stat.S_ISREG(state.st_mode):
            self.report(inside, "is not a regular file, so it is not opened", "replace it")
            return
        if linked:  # Edits in place are seen where the file really is.
            self.places.add(place_of(os.path.dirname(real)))
        self.files.append(Found(inside, real, mark_of(inside, state)))


def is_zip(name: str) -> bool:
    """Tell whether a file of this name is a zipped project."""
    return name.lower().endswith(".zip")


def look(root: Place, name: str, label: str) -> Walk | None:
    """Walk the project `name` of `root`; None if there is none (any more)."""
    walk = Walk(root, f"{label}/{text(name)}")
    link = os.path.join(root.path, name)
    path: str | None = link
    try:
        state = os.lstat(link)
        if stat.S_ISLNK(state.st_mode):
            if os.path.exists(link) and not os.path.isdir(link) and not is_zip(name):
                return None  # a link to a file is no project
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
        walk.files.append(Found("", path, mark_of("", state)))
        if path != link:  # Edits in place are seen where the file really is.
            walk.places.add(place_of(os.path.dirname(path)))
    elif path is not None:
        walk.descend(path, "", (root,))
    return walk


def mark_of(path: str, state: os.stat_result) -> Mark:
    return path, state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


def place_of(path: str) -> Place:
    state = os.stat(path)
    return Place(path, state.st_dev, state.st_ino)


def unreadable(error: OSError) -> tuple[str, str]:
    return f"cannot be read ({os.strerror(error.errno or 0)})", remedy(error)


def remedy(error: OSError) -> str:
    """Say how to fix that something cannot be read."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (LimitNOFILE, ulimit -n)"
    return "let the gateway's user read it"


def is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def text(name: str) -> str:
    """Return a name that can be encoded: octets that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
