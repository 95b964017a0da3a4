"""What is asked of a remote repository: which commit a branch has, and the files of that commit.

Nothing is checked out by git: a commit is fetched alone into a bare repository that lives as long
as the fetch, its list of files is judged, and only then are their contents written, one after the
other, into one file (`feed.checkout` takes it apart). So there are no hooks, filters or submodules,
and no path or link of a commit means anything to git.
"""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config.project import wanted
from trio_gw.feed.gitwords import GitError
from trio_gw.feed.walk import DEPTH, is_zip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table
    from trio_gw.feed.git import Git

REFS_BYTES = 1 << 20
LIST_BYTES = 16 << 20
FILES = 50_000  # in a commit, as far as they matter
_OURS = "refs/heads/incoming"
_LINE = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]{40,64}) +(-|\d+)\t(.+)", re.DOTALL)
_LINK, _SUBMODULE = b"120000", b"160000"


class Head(NamedTuple):
    """The commit of a branch; `branch` is its name where known."""

    commit: str
    branch: str
    ref: str


class File(NamedTuple):
    """A file of a commit: its path below the folder of projects, its object, its size."""

    path: str
    blob: str
    size: int
    link: bool


async def head(git: Git, table: Table, cwd: Path) -> Head:
    """Ask the remote for the commit of the branch. Raises `GitError`."""
    ref = f"refs/heads/{table.branch}" if table.branch else "HEAD"
    said = await git.run("ls-remote", "--symref", "--", table.url, ref, cwd=cwd, most=REFS_BYTES)
    branch = table.branch
    commit = ""
    for line in said.decode("utf-8", "replace").splitlines():
        value, _, name = line.partition("\t")
        if name != ref:
            continue
        if value.startswith("ref: "):
            branch = value.removeprefix("ref: ").removeprefix("refs/heads/")
        elif re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value):
            commit = value
    if commit:
        return Head(commit, branch, ref)
    if table.branch:
        what = f"the repository has no branch {table.branch}"
        raise GitError(what, "push it, or name another one in git.branch", passing=False)
    what = "the repository is empty, or its default branch is"
    raise GitError(what, "push a commit, or name a branch in git.branch", passing=False)


async def fetch(git: Git, table: Table, found: Head, repository: Path) -> str:
    """Fetch a commit, and nothing else, into a new bare repository; return which it is now."""
    kind = "sha256" if len(found.commit) == 64 else "sha1"
    above = repository.parent
    make = ("init", "--quiet", "--bare", "--template=", f"--object-format={kind}")
    await git.run(*make, "--", str(repository), cwd=above)
    options = ("--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
    what = f"+{found.ref}:{_OURS}"
    await git.run("fetch", *options, "--", table.url, what, cwd=repository)
    said = await git.run("rev-parse", "--verify", _OURS, cwd=repository, most=100)
    return said.decode().strip()


async def files(git: Git, table: Table, repository: Path) -> list[File]:
    """List the files of the fetched commit that belong to projects. Raises `GitError`."""
    tree = f"{_OURS}:{table.path}" if table.path else _OURS
    if table.path:
        what = f"the commit has no folder {table.path}"
        missing = GitError(what, "see to git.path", passing=False)
        try:
            kind = await git.run("cat-file", "-t", tree, cwd=repository, most=100)
        except GitError:
            raise missing from None
        if kind.strip() != b"tree":
            raise missing
    said = await git.run(
        "ls-tree", "-r", "-l", "-z", "--full-tree", tree, cwd=repository, most=LIST_BYTES
    )
    return await trio.to_thread.run_sync(_judge, said, table)


def _judge(said: bytes, table: Table) -> list[File]:
    found = _projects_only(_listed(said))
    if len(found) > FILES:
        what = f"the commit has more than {FILES} files"
        raise GitError(what, "remove some, or name a folder in git.path", passing=False)
    for file in found:
        if file.path.count("/") > DEPTH:
            what = f"{shown(file.path)} is nested deeper than {DEPTH} folders"
            raise GitError(what, "move it up", passing=False)
    if sum(file.size for file in found) > table.max_size << 20:
        what = f"the files of the commit are larger than git.max_size, {table.max_size} MiB"
        raise GitError(what, "remove large files, or raise it", passing=False)
    return found


async def contents(git: Git, repository: Path, listed: IO[bytes], into: IO[bytes]) -> None:
    """Write the contents of the objects that are `listed`, a line each, into one file."""
    await git.run("cat-file", "--batch", "--buffer", cwd=repository, stdin=listed, stdout=into)


def _listed(said: bytes) -> Iterator[File]:
    for line in said.split(b"\0"):
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise GitError("git ls-tree says what is not understood", "report it", passing=False)
        mode, kind, blob, size, path = found.groups()
        parts = path.split(b"/")
        # Names that begin with a dot are no part of a project (feed.store): `.`, `..`, `.git`.
        if mode == _SUBMODULE or kind != b"blob" or any(part.startswith(b".") for part in parts):
            continue
        if not all(parts):
            raise GitError("the commit has an empty file name", "fix it", passing=False)
        yield File(os.fsdecode(path), blob.decode(), int(size), mode == _LINK)


def shown(path: str) -> str:
    """Give the beginning of a path of a commit, as text that can be printed."""
    text = path[:200].encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def _projects_only(listed: Iterable[File]) -> list[File]:
    """Leave out folders without any file of a project, such as `docs`, and files beside them."""
    found = list(listed)
    projects = set()
    for file in found:
        top, slash, inside = file.path.partition("/")
        if wanted(inside) if slash else (is_zip(top) or file.link):
            projects.add(top)
    return [file for file in found if file.path.partition("/")[0] in projects]
