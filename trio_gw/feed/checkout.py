"""The files of a commit as a folder of projects, and what the loader thinks of them. Blocks.

What git wrote (`feed.remote`) is taken apart here: regular files first, links last, into a folder
that nobody has seen yet, so that no path of a commit is ever followed. What a link points to is
judged when the project is read, as in every folder of projects (`feed.walk`).
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import IO, TYPE_CHECKING, NamedTuple

from trio_gw.config import tiers
from trio_gw.errors import has_errors
from trio_gw.feed import store
from trio_gw.feed.catalog import compile_snapshots
from trio_gw.feed.gitwords import GitError
from trio_gw.feed.remote import shown
from trio_gw.feed.removal import remove
from trio_gw.feed.tracker import examine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Settings
    from trio_gw.errors import Problem
    from trio_gw.feed.ledger import Verdict
    from trio_gw.feed.remote import File

CHUNK = 1 << 20
LINK_BYTES = 4096


class Known(NamedTuple):
    """A project as it was read: the digest of its files, and what loading came to."""

    digest: bytes
    verdict: Verdict


class Loaded(NamedTuple):
    """A folder of projects: each by name, the good ones, and all problems."""

    known: Mapping[str, Known]

    @property
    def projects(self) -> dict[str, ApiProject]:
        """Those that can be served."""
        found = {name: one.verdict.project for name, one in self.known.items()}
        return {name: project for name, project in found.items() if project is not None}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with any of them."""
        return tuple(problem for one in self.known.values() for problem in one.verdict.problems)

    @property
    def broken(self) -> list[str]:
        """Name the projects that cannot be served."""
        return [name for name, one in self.known.items() if one.verdict.project is None]

    @property
    def digests(self) -> dict[str, str]:
        """Tell what the files of each project are."""
        return {name: one.digest.hex() for name, one in self.known.items()}


def load(root: Path, label: str, before: Mapping[str, Known]) -> Loaded:
    """Read the projects of a folder; one whose files are those of `before` is not loaded again.

    Raises OSError if the folder cannot be read.
    """
    known: dict[str, Known] = {}
    for name in store.scan(root, label=label).projects:
        old = before.get(name)
        reading = examine(root, name, label, b"" if old is None else old.digest)
        if reading is None:
            continue
        if reading.verdict is not None:
            known[name] = Known(reading.digest, reading.verdict)
        elif old is not None:
            known[name] = old
    return Loaded(known)


def write_list(listed: Sequence[File], into: IO[bytes]) -> None:
    """Write which objects are wanted, as `git cat-file --batch` reads it."""
    into.write("".join(f"{file.blob}\n" for file in listed).encode())
    into.flush()
    into.seek(0)


def take_apart(listed: Sequence[File], packed: IO[bytes], root: Path) -> None:
    """Write the listed files, whose contents follow each other in `packed`, below `root`.

    Raises `GitError` when the commit cannot be written down as it is, OSError for the disk.
    """
    root.mkdir(mode=0o700)
    packed.seek(0)
    links: list[tuple[File, bytes]] = []
    for file in listed:
        head = packed.readline(200).split()
        if len(head) != 3 or head[0].decode() != file.blob or int(head[2]) != file.size:
            raise GitError("the commit is incomplete", "push it anew")
        try:
            if file.link:
                links.append((file, packed.read(file.size)))
            else:
                _write(root / file.path, packed, file.size)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise _twice(file) from None
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
                raise
            what = f"{shown(file.path)} cannot be the name of a file here"
            raise GitError(what, "rename it", passing=False) from None
        packed.read(1)
    for file, target in links:
        if file.size > LINK_BYTES or not target or b"\0" in target:
            what = f"{shown(file.path)} is a link that leads nowhere"
            raise GitError(what, "remove it", passing=False)
        path = root / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path.parent.resolve() != (root.resolve() / file.path).parent:
                raise _twice(file)
            path.symlink_to(os.fsdecode(target))
        except (FileExistsError, NotADirectoryError):
            raise _twice(file) from None


def _write(path: Path, packed: IO[bytes], size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "xb") as out:
        while size:
            data = packed.read(min(size, CHUNK))
            if not data:
                raise GitError("the commit is incomplete", "push it anew")
            out.write(data)
            size -= len(data)


def _twice(file: File) -> GitError:
    what = f"{shown(file.path)} is there twice, as a file and as a folder"
    return GitError(what, "remove one of them", passing=False)


def keep(root: Path, names: Iterable[str], before: Path | None) -> None:
    """Put what these projects were before in the place of what they are; remove the new ones."""
    for name in names:
        remove(root / name)
        old = None if before is None else before / name
        if old is None or not os.path.lexists(old):
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.copytree(old, root / name, symlinks=True)
        else:
            shutil.copy2(old, root / name, follow_symlinks=False)


def judge(projects: Mapping[str, ApiProject], settings: Settings) -> tuple[Problem, ...]:
    """Find what is wrong between these projects, when nothing else is served."""
    return compile_snapshots(
        [projects],
        settings.environments,
        strict_vhosts=settings.strict_vhosts,
        known_tiers=tiers.known(settings.tiers),
    ).problems


def errors_of(problems: Iterable[Problem]) -> int:
    """Count what is more than a warning."""
    return sum(has_errors([problem]) for problem in problems)
