"""Turn the files of a commit into a folder of projects, and load them. Blocks.

Splits the output of git (`feed.git_remote`): regular files first, then links, into a new folder
that nothing else uses yet. So links in paths of a commit are never followed. Targets of links are
checked when the project is read, as in every folder of projects (`feed.walk`).
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import IO, TYPE_CHECKING, NamedTuple

from trio_gw.config import tiers
from trio_gw.errors import has_errors
from trio_gw.feed import project_files
from trio_gw.feed.compile import compile_snapshots
from trio_gw.feed.examine import examine
from trio_gw.feed.git_errors import GitError
from trio_gw.feed.git_remote import shown
from trio_gw.feed.remove_tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.errors import Problem
    from trio_gw.feed.git_remote import CommitFile
    from trio_gw.feed.project_state import LoadResult

CHUNK = 1 << 20
LINK_BYTES = 4096


class KnownProject(NamedTuple):
    """A project: the digest of its files, and the result of loading them."""

    digest: bytes
    result: LoadResult


class LoadedProjects(NamedTuple):
    """The projects of a folder by name, the good ones, and all problems."""

    known: Mapping[str, KnownProject]

    @property
    def projects(self) -> dict[str, ApiProject]:
        """The projects that can be served."""
        found = {name: one.result.project for name, one in self.known.items()}
        return {name: project for name, project in found.items() if project is not None}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of all projects."""
        return tuple(problem for one in self.known.values() for problem in one.result.problems)

    @property
    def broken(self) -> list[str]:
        """The names of projects that cannot be served."""
        return [name for name, one in self.known.items() if one.result.project is None]

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the files, by project."""
        return {name: one.digest.hex() for name, one in self.known.items()}


def load(root: Path, label: str, before: Mapping[str, KnownProject]) -> LoadedProjects:
    """Read the projects of a folder; those with the same files as in `before` are not loaded again.

    Raises OSError if the folder cannot be read.
    """
    known: dict[str, KnownProject] = {}
    for name in project_files.scan(root, label=label).projects:
        old = before.get(name)
        reading = examine(root, name, label, b"" if old is None else old.digest)
        if reading is None:
            continue
        if reading.result is not None:
            known[name] = KnownProject(reading.digest, reading.result)
        elif old is not None:
            known[name] = old
    return LoadedProjects(known)


def write_list(listed: Sequence[CommitFile], into: IO[bytes]) -> None:
    """Write the objects to read, as input for `git cat-file --batch`."""
    into.write("".join(f"{file.blob}\n" for file in listed).encode())
    into.flush()
    into.seek(0)


def unpack(listed: Sequence[CommitFile], packed: IO[bytes], root: Path) -> None:
    """Write the listed files below `root`; their contents follow each other in `packed`.

    Raises `GitError` if the commit cannot be written as it is, OSError for disk errors.
    """
    root.mkdir(mode=0o700)
    packed.seek(0)
    links: list[tuple[CommitFile, bytes]] = []
    for file in listed:
        head = packed.readline(200).split()
        if len(head) != 3 or head[0].decode() != file.blob or int(head[2]) != file.size:
            raise GitError("the commit is incomplete", "push the commit again")
        try:
            if file.link:
                links.append((file, packed.read(file.size)))
            else:
                _write(root / file.path, packed, file.size)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise _duplicate(file) from None
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
                raise
            what = f"{shown(file.path)} is not a valid file name on this system"
            raise GitError(what, "rename it", temporary=False) from None
        packed.read(1)
    for file, target in links:
        if file.size > LINK_BYTES or not target or b"\0" in target:
            what = f"{shown(file.path)} is a broken link"
            raise GitError(what, "remove it", temporary=False)
        path = root / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path.parent.resolve() != (root.resolve() / file.path).parent:
                raise _duplicate(file)
            path.symlink_to(os.fsdecode(target))
        except (FileExistsError, NotADirectoryError):
            raise _duplicate(file) from None


def _write(path: Path, packed: IO[bytes], size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "xb") as out:
        while size:
            data = packed.read(min(size, CHUNK))
            if not data:
                raise GitError("the commit is incomplete", "push the commit again")
            out.write(data)
            size -= len(data)


def _duplicate(file: CommitFile) -> GitError:
    what = f"{shown(file.path)} is both a file and a folder"
    return GitError(what, "remove one", temporary=False)


def restore(root: Path, names: Iterable[str], before: Path | None) -> None:
    """Replace these projects by their previous version; remove those without one."""
    for name in names:
        remove_tree(root / name)
        old = None if before is None else before / name
        if old is None or not os.path.lexists(old):
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.copytree(old, root / name, symlinks=True)
        else:
            shutil.copy2(old, root / name, follow_symlinks=False)


def conflicts(projects: Mapping[str, ApiProject], settings: Settings) -> tuple[Problem, ...]:
    """Find problems between these projects if nothing else is served."""
    return compile_snapshots(
        [projects],
        settings.known_environments,
        strict_vhosts=settings.strict_vhosts,
        known_tiers=tiers.known(settings.tiers),
    ).problems


def count_errors(problems: Iterable[Problem]) -> int:
    """Count the problems that are errors."""
    return sum(has_errors([problem]) for problem in problems)
