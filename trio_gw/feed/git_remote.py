"""Requests to a remote repository: the commit of a branch, and the files of that commit.

Git checks out nothing. A commit is fetched without history into a bare repository that is removed
afterwards. Its list of files is checked first; then their contents are written, one after the
other, into one file (`feed.git_checkout` splits it). So there are no hooks, filters or submodules,
and git does not interpret any path or link of a commit.
"""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config.project import wanted
from trio_gw.feed.git_errors import GitError
from trio_gw.feed.walk import DEPTH, is_zip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table
    from trio_gw.feed.git_command import GitCommand

REFS_BYTES = 1 << 20
LIST_BYTES = 16 << 20
FILES = 50_000  # project files in a commit
_OURS = "refs/heads/incoming"
_LINE = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]{40,64}) +(-|\d+)\t(.+)", re.DOTALL)
_LINK, _SUBMODULE = b"120000", b"160000"


class BranchHead(NamedTuple):
    """The newest commit of a branch; `branch` is its name if known."""

    commit: str
    branch: str
    ref: str


class CommitFile(NamedTuple):
    """A file of a commit: its path in the folder of projects, its object and size."""

    path: str
    blob: str
    size: int
    link: bool


async def head(git: GitCommand, table: Table, cwd: Path) -> BranchHead:
    """Ask the remote for the newest commit of the branch. Raises `GitError`."""
    ref = f"refs/heads/{table.branch}" if table.branch else "HEAD"
    output = await git.run("ls-remote", "--symref", "--", table.url, ref, cwd=cwd, most=REFS_BYTES)
    branch = table.branch
    commit = ""
    for line in output.decode("utf-8", "replace").splitlines():
        value, _, name = line.partition("\t")
        if name != ref:
            continue
        if value.startswith("ref: "):
            branch = value.removeprefix("ref: ").removeprefix("refs/heads/")
        elif re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value):
            commit = value
    if commit:
        return BranchHead(commit, branch, ref)
    if table.branch:
        what = f"the repository has no branch {table.branch}"
        raise GitError(what, "push it, or set git.branch to another one", temporary=False)
    what = "the repository is empty, or its default branch is"
    raise GitError(what, "push a commit, or set git.branch", temporary=False)


async def fetch(git: GitCommand, table: Table, found: BranchHead, repository: Path) -> str:
    """Fetch only the newest commit into a new bare repository; return its id."""
    kind = "sha256" if len(found.commit) == 64 else "sha1"
    above = repository.parent
    make = ("init", "--quiet", "--bare", "--template=", f"--object-format={kind}")
    await git.run(*make, "--", str(repository), cwd=above)
    options = ("--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
    what = f"+{found.ref}:{_OURS}"
    await git.run("fetch", *options, "--", table.url, what, cwd=repository)
    output = await git.run("rev-parse", "--verify", _OURS, cwd=repository, most=100)
    return output.decode().strip()


async def files(git: GitCommand, table: Table, repository: Path) -> list[CommitFile]:
    """List the files of the fetched commit that belong to projects. Raises `GitError`."""
    tree = f"{_OURS}:{table.path}" if table.path else _OURS
    if table.path:
        what = f"the commit has no folder {table.path}"
        missing = GitError(what, "check git.path", temporary=False)
        try:
            kind = await git.run("cat-file", "-t", tree, cwd=repository, most=100)
        except GitError:
            raise missing from None
        if kind.strip() != b"tree":
            raise missing
    output = await git.run(
        "ls-tree", "-r", "-l", "-z", "--full-tree", tree, cwd=repository, most=LIST_BYTES
    )
    return await trio.to_thread.run_sync(_check, output, table)


def _check(output: bytes, table: Table) -> list[CommitFile]:
    found = _projects_only(_listed(output))
    if len(found) > FILES:
        what = f"the commit has more than {FILES} files"
        raise GitError(what, "remove some, or set git.path to a folder", temporary=False)
    for file in found:
        if file.path.count("/") > DEPTH:
            what = f"{shown(file.path)} is nested deeper than {DEPTH} folders"
            raise GitError(what, "move it to a higher folder", temporary=False)
    if sum(file.size for file in found) > table.max_size << 20:
        what = f"the files of the commit are larger than git.max_size, {table.max_size} MiB"
        raise GitError(what, "remove large files, or increase git.max_size", temporary=False)
    return found


async def contents(git: GitCommand, repository: Path, listed: IO[bytes], into: IO[bytes]) -> None:
    """Write the contents of the objects in `listed`, one per line, into one file."""
    await git.run("cat-file", "--batch", "--buffer", cwd=repository, stdin=listed, stdout=into)


def _listed(output: bytes) -> Iterator[CommitFile]:
    for line in output.split(b"\0"):
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise GitError(
                "the output of git ls-tree is not understood", "report the bug", temporary=False
            )
        mode, kind, blob, size, path = found.groups()
        parts = path.split(b"/")
        # Names that begin with a dot do not belong to a project: `.`, `..`, `.git`.
        if mode == _SUBMODULE or kind != b"blob" or any(part.startswith(b".") for part in parts):
            continue
        if not all(parts):
            raise GitError("the commit has an empty file name", "rename the file", temporary=False)
        yield CommitFile(os.fsdecode(path), blob.decode(), int(size), mode == _LINK)


def shown(path: str) -> str:
    """Return the beginning of a path in a commit as printable text."""
    text = path[:200].encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def _projects_only(listed: Iterable[CommitFile]) -> list[CommitFile]:
    """Leave out folders without project files, such as `docs`, and other files at the top."""
    found = list(listed)
    projects = set()
    for file in found:
        top, slash, inside = file.path.partition("/")
        if wanted(inside) if slash else (is_zip(top) or file.link):
            projects.add(top)
    return [file for file in found if file.path.partition("/")[0] in projects]
