"""A folder of API projects as a store: what lies in it, and the bytes of one project.

Every directory of the root whose name does not begin with a dot is a project, and so is every
file named `*.zip`. `scan` tells cheaply what is there; `read` returns the files of one project
that the loader wants. Both touch the disk and are called in a worker thread by `feed.folder`,
and directly by the command line.

Promises, whatever was dropped into the folder: nothing but a regular file is ever opened, no
link is followed out of the root, circles end, work and memory are bounded, and nothing inside
the root raises: it becomes a `Problem`. Only a root that cannot be listed raises `OSError`.

Names that begin with a dot are skipped as entries, but a link may pass through them. That is
the shape of a mounted Kubernetes ConfigMap: `api.yaml -> ..data/api.yaml`, where
`..data -> ..2026_11_24` is replaced by an atomic rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from trio_gw.errors import Problem, UnusableError
from trio_gw.feed import archive
from trio_gw.feed.walk import (
    Found,
    Signature,
    Walk,
    look,
    mark_of,
    place_of,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from trio_gw.watch.directories import Place

FILE_BYTES = 2 << 20  # one octet more is read, so that the loader can say "too large"
PROJECT_BYTES = 16 << 20  # all wanted files of one project together


class Sighting(NamedTuple):
    """One project as a scan saw it. Equal signatures mean that nothing has to be read again."""

    signature: Signature
    places: frozenset[Place]


class Listing(NamedTuple):
    """The projects of a root by name, and the place of the root."""

    projects: dict[str, Sighting]
    place: Place


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
    place = place_of(real)
    with os.scandir(real) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    projects: dict[str, Sighting] = {}
    for name in names:
        if (only is None or name in only) and (walk := look(place, name, label)) is not None:
            projects[name] = Sighting(walk.signature(), frozenset(walk.places))
    return Listing(projects, place)


def read(root: str | os.PathLike[str], name: str, *, label: str) -> Contents | None:
    """Read the wanted files of the project `name`; None if there is no such project.

    Raises OSError if the root is not there.
    """
    place = place_of(os.path.realpath(root, strict=True))
    if (walk := look(place, name, label)) is None:
        return None
    signature = walk.signature()
    files, steady = _unzip(walk) if walk.zipped else _read_files(walk)
    return Contents(files, tuple(walk.problems), signature, steady)


def _unzip(walk: Walk) -> tuple[dict[str, bytes], bool]:
    for found in walk.files:
        try:
            with _opened(found) as file:
                if file is None:
                    return {}, False
                files = archive.unpack(file, walk.label)
                return files, mark_of(found.path, os.fstat(file.fileno())) == found.mark
        except OSError as error:
            walk.report("", *unreadable(error))
        except UnusableError as error:
            walk.problems += error.problems
    return {}, True


def _read_files(walk: Walk) -> tuple[dict[str, bytes], bool]:
    files: dict[str, bytes] = {}
    steady = True
    room = PROJECT_BYTES
    for found in walk.files:
        try:
            data = _read_file(found)
        except OSError as error:
            walk.report(found.path, *unreadable(error))
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
    return files, steady


def _read_file(found: Found) -> bytes | None:
    """Return at most FILE_BYTES + 1 octets of a file; None if it is being changed."""
    with _opened(found) as file:
        if file is None:
            return None
        data = file.read(FILE_BYTES + 1)
        return data if mark_of(found.path, os.fstat(file.fileno())) == found.mark else None


@contextlib.contextmanager
def _opened(found: Found) -> Iterator[BinaryIO | None]:
    """Open a file that a walk found; None if it is not, or no more, what was found.

    Should the path have become something else since the walk, O_NOFOLLOW and O_NONBLOCK keep
    us from following or waiting for it, and the comparison from believing it.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(found.real, flags)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise
        yield None
        return
    with open(descriptor, "rb") as file:
        same = mark_of(found.path, os.fstat(descriptor)) == found.mark
        yield file if same else None
