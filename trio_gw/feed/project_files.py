"""The API projects in a folder: their names and signatures, and the files of one project.

Every directory of the root is a project, unless its name begins with a dot, and so is every file
named `*.zip`. `scan` finds the projects at low cost. `read` returns those files of one project
that the loader needs. Both access the disk. `feed.tracker` calls them in a worker thread, the
command line calls them directly.

Guarantees for any content of the folder: only regular files are opened, links out of the root are
not followed, circular links end, and work and memory are bounded. Faults inside the root do not
raise exceptions but become a `Problem`. Only a root that cannot be listed raises `OSError`.

Entries with names that begin with a dot are skipped, but a link may pass through them. A mounted
Kubernetes ConfigMap has this form: `api.yaml -> ..data/api.yaml`, where `..data -> ..2026_11_24`
is replaced by an atomic rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from trio_gw.errors import Problem, UnusableError
from trio_gw.feed import archive
from trio_gw.feed.walk import (
    FoundFile,
    ProjectWalk,
    Signature,
    directory_id,
    file_mark,
    unreadable,
    walk_project,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from trio_gw.watch.directory_id import DirectoryId

FILE_BYTES = 2 << 20  # one more byte is read, so that the loader can report "too large"
PROJECT_BYTES = 16 << 20  # all needed files of one project together


class ScannedProject(NamedTuple):
    """One project of a scan. If the signature is equal, the files need not be read again."""

    signature: Signature
    directories: frozenset[DirectoryId]


class FolderScan(NamedTuple):
    """The projects of a root by name, and the identity of the root."""

    projects: dict[str, ScannedProject]
    root: DirectoryId


class ProjectFiles(NamedTuple):
    """The needed files of one project by relative POSIX path.

    `steady` is False if a file changed or disappeared during the read: read again later.
    """

    files: dict[str, bytes]
    problems: tuple[Problem, ...]
    signature: Signature
    steady: bool


def scan(
    root: str | os.PathLike[str], *, label: str, only: Container[str] | None = None
) -> FolderScan:
    """List the projects of `root`, or only those named in `only`.

    `label` is the name of the root in problems. Raises OSError if the root cannot be listed.
    """
    real = os.path.realpath(root, strict=True)
    identity = directory_id(real)
    with os.scandir(real) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    projects: dict[str, ScannedProject] = {}
    for name in names:
        if only is not None and name not in only:
            continue
        if (walk := walk_project(identity, name, label)) is not None:
            projects[name] = ScannedProject(walk.signature(), frozenset(walk.directories))
    return FolderScan(projects, identity)


def read(root: str | os.PathLike[str], name: str, *, label: str) -> ProjectFiles | None:
    """Read the needed files of the project `name`; None if there is no such project.

    Raises OSError if the root does not exist.
    """
    identity = directory_id(os.path.realpath(root, strict=True))
    if (walk := walk_project(identity, name, label)) is None:
        return None
    signature = walk.signature()
    files, steady = _unzip(walk) if walk.zipped else _read_files(walk)
    return ProjectFiles(files, tuple(walk.problems), signature, steady)


def _unzip(walk: ProjectWalk) -> tuple[dict[str, bytes], bool]:
    for found in walk.files:
        try:
            with _opened(found) as file:
                if file is None:
                    return {}, False
                files = archive.unpack(file, walk.label)
                return files, file_mark(found.path, os.fstat(file.fileno())) == found.mark
        except OSError as error:
            walk.report("", *unreadable(error))
        except UnusableError as error:
            walk.problems += error.problems
    return {}, True


def _read_files(walk: ProjectWalk) -> tuple[dict[str, bytes], bool]:
    files: dict[str, bytes] = {}
    steady = True
    remaining = PROJECT_BYTES
    for found in walk.files:
        try:
            data = _read_file(found)
        except OSError as error:
            walk.report(found.path, *unreadable(error))
            continue
        if data is None:
            steady = False
            continue
        remaining -= len(data)
        if remaining < 0:
            what = f"has more than {PROJECT_BYTES >> 20} MiB of definitions and certificates"
            walk.report("", what, "remove files that do not belong to the API")
            break
        files[found.path] = data
    return files, steady


def _read_file(found: FoundFile) -> bytes | None:
    """Return at most FILE_BYTES + 1 bytes of a file; None if it is changing."""
    with _opened(found) as file:
        if file is None:
            return None
        data = file.read(FILE_BYTES + 1)
        return data if file_mark(found.path, os.fstat(file.fileno())) == found.mark else None


@contextlib.contextmanager
def _opened(found: FoundFile) -> Iterator[BinaryIO | None]:
    """Open a file that a walk found; None if it is missing or has changed.

    If the path has become something else after the walk, O_NOFOLLOW and O_NONBLOCK prevent
    following a link and waiting for a pipe, and the comparison detects the change.
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
        same = file_mark(found.path, os.fstat(descriptor)) == found.mark
        yield file if same else None
