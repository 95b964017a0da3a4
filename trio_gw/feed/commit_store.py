"""The folder of the git source on disk: trees of projects, and the state that names one of them.

Blocks; called in worker threads. One process (`locked`) polls the remote. It writes a new tree
next to the others and then replaces the state file. All workers, including that one, serve what
the state names. So a crash leaves the old commit or the new one, and a start serves the last good
commit before it contacts the remote. Trees that the state does not name are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import regular
from trio_gw.errors import Problem
from trio_gw.feed import git_checkout
from trio_gw.feed.atomic_file import TEMPORARY, file_version, replacing, temporary_path
from trio_gw.feed.git_checkout import LoadedProjects
from trio_gw.feed.origins import GIT
from trio_gw.feed.remove_tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table
    from trio_gw.feed.atomic_file import FileVersion
    from trio_gw.feed.project_state import Snapshot

STATE = "state.json"
STATE_BYTES = 16 << 20
SHORT = 12  # digits of a commit in messages
_LOCK = ".lock"
_TREE = "tree-"


def source_of(table: Table) -> str:
    """Return repository, branch and folder as one text; a state is valid for one of them only."""
    return " ".join((table.url, table.branch or "-", table.path or "."))


class CommitState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The served commit and its problems.

    `source` names repository, branch and folder. `digests` are those of the project files, so that
    a damaged tree is detected. `commit` is empty before the first good commit. `left` are problems
    of projects that were left out of it; `faults` explain why no newer commit is served. `until`
    is the source in the current settings, if it is another one: this commit is served until there
    is a good commit of that source.
    """

    source: str
    commit: str = ""
    branch: str = ""
    tree: str = ""
    digests: dict[str, str] = {}
    left: tuple[Problem, ...] = ()
    faults: tuple[Problem, ...] = ()
    until: str = ""


class CommitStore:
    """The folder; created when it is first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def version(self) -> FileVersion | None:
        """Return the version of the state file; None if there is none."""
        try:
            return file_version(self.root / STATE)
        except OSError:
            return None

    def read(self, source: str) -> CommitState | None:
        """Read the state; an empty one if there is no usable file.

        Returns None if the state belongs to another source and is not kept until there is a
        commit of this one. Raises OSError if the file exists and cannot be read.
        """
        try:
            data = regular.read(self.root / STATE, STATE_BYTES)
            state = msgspec.json.decode(data, type=CommitState)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return CommitState(source)  # Damaged data is fetched again.
        plain = state.tree.startswith(_TREE) and "/" not in state.tree
        if source not in (state.source, state.until):
            return None
        return state if plain or not state.tree else CommitState(source)

    def write(self, state: CommitState) -> None:
        """Replace the state and sync it to disk."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(self.root / STATE) as file:
            file.write(msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")

    def new_path(self) -> Path:
        """Return a path for a temporary folder."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return temporary_path(self.root)

    def adopt(self, temporary: Path, commit: str) -> str:
        """Rename a finished tree to its final name and return that."""
        name = f"{_TREE}{commit[:SHORT]}-{secrets.token_hex(4)}"
        os.rename(temporary, self.root / name)
        return name

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Try to take the lock for changing the folder; yields whether this process has it."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.root / _LOCK, "ab", opener=regular.opener) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def sweep(self, tree: str) -> None:
        """Remove all temporary files and all trees but this one. Hold the lock."""
        with os.scandir(self.root) as entries:
            for entry in list(entries):
                if entry.name == tree or not entry.name.startswith((_TREE, TEMPORARY)):
                    continue
                remove_tree(self.root / entry.name)


def load_once(
    table: Table, base: Path, identify: Callable[[Mapping[str, str]], None] = lambda digests: None
) -> Snapshot:
    """Load the commit that was served last, as at the start of the gateway. Blocks.

    `identify` is called with the digests of the project files.
    """
    store = CommitStore(base / table.folder)
    try:
        state = store.read(source_of(table)) or CommitState("")
        tree = store.root / state.tree
        loaded = git_checkout.load(tree, GIT, {}) if state.tree else LoadedProjects({})
    except OSError as error:
        what = f"the last served commit cannot be read ({os.strerror(error.errno or 0)})"
        return {}, (Problem(table.folder, 0, 0, what, "give this user read access"),)
    identify(loaded.digests)
    return loaded.projects, (*state.faults, *state.left, *loaded.problems)
