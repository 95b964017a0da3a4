"""A folder of API projects as a store: what lies in it, and the bytes of one project.

Every directory of the root whose name does not begin with a dot is a project. `scan` tells
cheaply what is there; `read` returns the files of one project that the loader wants. Both touch
the disk and are called in a worker thread by `feed.folder`, and directly by the command line.

Promises, whatever was dropped into the folder: nothing but a regular file is ever opened, no
link is followed out of the root, circles end, work and memory are bounded, and nothing inside
the root raises: it becomes a `Problem`. Only a root that cannot be listed raises `OSError`.

Names that begin with a dot are skipped as entries, but a link may pass through them. That is
the shape of a mounted Kubernetes ConfigMap: `api.yaml -> ..data/api.yaml`, where
`..data -> ..2026_11_24` is replaced by an atomic rename.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config.project import wanted
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Literal

DEPTH = 16  # levels of directories in a project; exports of API Manager use three
ENTRIES = 10_000  # directory entries of one project, dot-names included
FILE_BYTES = 2 << 20  # one octet more is read, so that the loader can say "too large"
PROJECT_BYTES = 16 << 20  # all wanted files of one project together

# What tells one state of a file from another. The change time is there for copies that keep
# size and modification time, and for a file that becomes readable again.
Mark = tuple[str, int, int, int, int]
Signature = tuple[tuple[Mark, ...], tuple[Problem, ...]]


class Place(NamedTuple):
    """A real directory whose entries decide what a project is: a place worth watching."""

    path: str
    device: int
    inode: int


class Sighting(NamedTuple):
    """One project as a scan saw it. Equal signatures mean that nothing has to be read again."""

    signature: Signature
    places: frozenset[Place]


class Listing(NamedTuple):
    """The projects of a root by name, the place of the root, and what is wrong beside them."""

    projects: dict[str, Sighting]
    place: Place
    problems: tuple[Problem, ...]


class Contents(NamedTuple):
    """The wanted files of one project by relative POSIX path.

    `steady` is False when a file changed or vanished while it was read: read again later.
    """

    files: dict[str, bytes]
    problems: tuple[Problem, ...]
    signature: Signature
    steady: bool


def scan(
    root: str | os.PathLike[str], *, label: str, only: Container[str] | None = None
) -> Listing:
    """List the projects of `root`, or of those only the ones named in `only`.

    `label` stands for the root in problems. Raises OSError if the root cannot be listed.
    """
    real = os.path.realpath(root, strict=True)
    place = _place(real)
    with os.scandir(real) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    projects: dict[str, Sighting] = {}
    problems: list[Problem] = []
    for name in names:
        # A zip is named by every scan, also a partial one: the list is complete each time.
        if name.lower().endswith(".zip") and not os.path.isdir(os.path.join(real, name)):
            what = "zip files are not read, only folders are"
            mend = "unpack it into a folder beside it"
            problems.append(Problem(f"{label}/{text(name)}", 0, 0, what, mend, "warning"))
        elif (only is None or name in only) and (walk := _look(place, name, label)) is not None:
            projects[name] = Sighting(walk.signature(), frozenset(walk.places))
    return Listing(projects, place, tuple(problems))


def read(root: str | os.PathLike[str], name: str, *, label: str) -> Contents | None:
    """Read the wanted files of the project `name`; None if there is no such project.

    Raises OSError if the root is not there.
    """
    place = _place(os.path.realpath(root, strict=True))
    if (walk := _look(place, name, label)) is None:
        return None
    signature = walk.signature()
    files: dict[str, bytes] = {}
    steady = True
    room = PROJECT_BYTES
    for found in walk.files:
        try:
            data = _read_file(found)
        except OSError as error:
            walk.report(found.path, *_unreadable(error))
            continue
        if data is None:
            steady = False
            continue
        room -= len(data)
        if room < 0:
            what = f"holds more than {PROJECT_BYTES >> 20} MiB of definitions and certificates"
            walk.report("", what, "remove what does not belong to the API")
            break
        files[found.path] = data
    return Contents(files, tuple(walk.problems), signature, steady)


class _Found(NamedTuple):
    """A wanted regular file: its path in the project, its real path, its state."""

    path: str
    real: str
    mark: Mark


class _Walk:
    """One pass over the names of a project; opens directories only, one at a time."""

    def __init__(self, root: Place, label: str) -> None:
        self.root = root
        self.label = label
        self.files: list[_Found] = []
        self.places: set[Place] = set()
        self.problems: list[Problem] = []
        self._entries = 0
        self._full = False

    def signature(self) -> Signature:
        """Return the state of everything seen; compare it with `==`."""
        return tuple(found.mark for found in self.files), tuple(self.problems)

    def report(
        self, path: str, what: str, mend: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        """Note a problem with a path inside the project; an empty path is the project."""
        file = f"{self.label}/{path}" if path else self.label
        self.problems.append(Problem(file, 0, 0, what, mend, severity))

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
            self.report(inside, what, "copy what it points to into the project", severity)
            return None
        return real

    def descend(self, path: str, inside: str, above: Sequence[Place]) -> None:
        """Walk the real directory `path`, called `inside` in the project."""
        try:
            place = _place(path)
            if any(place[1:] == other[1:] for other in above):
                what = "is a link into a folder above it, a circle, so it is not followed"
                self.report(inside, what, "remove the link", "warning")
                return
            with os.scandir(path) as entries:
                children = list(itertools.islice(entries, ENTRIES + 1 - self._entries))
        except FileNotFoundError:
            return  # It went away between two looks: the next one sees the rest.
        except OSError as error:
            self.report(inside, *_unreadable(error))
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
            if not _is_utf8(entry.name):
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
            self.places.add(_place(os.path.dirname(real)))
        self.files.append(_Found(inside, real, _mark(inside, state)))


def _look(root: Place, name: str, label: str) -> _Walk | None:
    """Walk the project `name` of `root`; None if there is none (any more)."""
    walk = _Walk(root, f"{label}/{text(name)}")
    link = os.path.join(root.path, name)
    path: str | None = link
    try:
        mode = os.lstat(link).st_mode
        if stat.S_ISLNK(mode):
            if os.path.exists(link) and not os.path.isdir(link):
                return None  # a link to a file is no project
            path = walk.resolve(link, "")
        elif not stat.S_ISDIR(mode):
            return None
    except FileNotFoundError:
        return None
    if not _is_utf8(name):
        walk.report("", "has a name that is not UTF-8, so it is not read", "rename the folder")
    elif path is not None:
        walk.descend(path, "", (root,))
    return walk


def _read_file(found: _Found) -> bytes | None:
    """Return at most FILE_BYTES + 1 octets of a file; None if it is being changed.

    Should the path have become something else since the walk, O_NOFOLLOW and O_NONBLOCK keep
    us from following or waiting for it, and the comparison from believing it.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(found.real, flags)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            return None
        raise
    with open(descriptor, "rb") as file:
        if _mark(found.path, os.fstat(descriptor)) != found.mark:
            return None
        data = file.read(FILE_BYTES + 1)
        return data if _mark(found.path, os.fstat(descriptor)) == found.mark else None


def _mark(path: str, state: os.stat_result) -> Mark:
    return path, state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


def _place(path: str) -> Place:
    state = os.stat(path)
    return Place(path, state.st_dev, state.st_ino)


def _unreadable(error: OSError) -> tuple[str, str]:
    return f"cannot be read ({os.strerror(error.errno or 0)})", "let the gateway's user read it"


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def text(name: str) -> str:
    """Return a name that can be encoded: octets that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
