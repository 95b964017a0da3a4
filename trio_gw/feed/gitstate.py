"""The folder of the git source on disk: trees of projects, and the state that names one of them.

Blocks; called in worker threads. The one process that asks the remote (`locked`) puts a tree
beside the others and then replaces the state by a rename; all workers, that one too, serve what
the state says. So a crash leaves the old commit or the new one, and a start serves the last one
that was good before it has asked anybody. Whatever the state does not name is swept away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.config import regular
from trio_gw.errors import Problem
from trio_gw.feed import checkout
from trio_gw.feed.checkout import Loaded
from trio_gw.feed.deployed import GIT as ORIGIN
from trio_gw.feed.removal import remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from trio_gw.config.git import GitSettings as Table
    from trio_gw.feed.ledger import Snapshot

STATE = "state.json"
STATE_BYTES = 16 << 20
SHORT = 12  # digits of a commit in messages
_LOCK = ".lock"
_TREE = "tree-"
_COMING = ".coming-"


def source_of(table: Table) -> str:
    """Say which projects of which repository these are; for others the state is worth nothing."""
    return " ".join((table.url, table.branch or "-", table.path or "."))


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is served of which repository, and what is wrong.

    `source` says which repository, branch and folder; `digests` what the files of the tree are,
    so that a damaged tree is found out. `commit` is empty before the first good one. `left` are
    faults in what was left out of it, `faults` say why nothing newer is served. `until` is the
    source that the settings name now: this one is served until something of that is.
    """

    source: str
    commit: str = ""
    branch: str = ""
    tree: str = ""
    digests: dict[str, str] = {}
    left: tuple[Problem, ...] = ()
    faults: tuple[Problem, ...] = ()
    until: str = ""


class Mark(NamedTuple):
    """What tells one state on disk from another."""

    inode: int
    modified: int
    size: int


class Trees:
    """The folder; made when it is first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def mark(self) -> Mark | None:
        """Return what the state file is now; None if there is none."""
        try:
            found = os.stat(self.root / STATE)
        except OSError:
            return None
        return Mark(found.st_ino, found.st_mtime_ns, found.st_size)

    def read(self, source: str) -> State | None:
        """Read the state; an empty one if there is none, or none to be used.

        None if it is of another source than this, and does not wait for this one either.
        Raises OSError if it is there and cannot be read.
        """
        try:
            data = regular.read(self.root / STATE, STATE_BYTES)
            state = msgspec.json.decode(data, type=State)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return State(source)  # What is damaged is fetched anew.
        plain = state.tree.startswith(_TREE) and "/" not in state.tree
        if source not in (state.source, state.until):
            return None
        return state if plain or not state.tree else State(source)

    def write(self, state: State) -> None:
        """Replace the state, on the disk itself."""
        coming = self.new_path()
        try:
            with open(coming, "xb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(coming, self.root / STATE)
        except BaseException:
            coming.unlink(missing_ok=True)
            raise

    def new_path(self) -> Path:
        """Name something that is on its way."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.root / f"{_COMING}{secrets.token_hex(8)}"

    def adopt(self, coming: Path, commit: str) -> str:
        """Give a finished tree its name; return it."""
        name = f"{_TREE}{commit[:SHORT]}-{secrets.token_hex(4)}"
        os.rename(coming, self.root / name)
        return name

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Be the one who changes the folder, if nobody else is; tell whether that came true."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.root / _LOCK, "ab", opener=regular.opener) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def sweep(self, tree: str) -> None:
        """Remove all trees but this one, and whatever was on its way. Hold the lock."""
        with os.scandir(self.root) as entries:
            for entry in list(entries):
                if entry.name == tree or not entry.name.startswith((_TREE, _COMING)):
                    continue
                remove(self.root / entry.name)


def load_once(
    table: Table, base: Path, identify: Callable[[Mapping[str, str]], None] = lambda digests: None
) -> Snapshot:
    """Load the commit that was served last, as `run` does before it asks the remote. Blocks.

    `identify` is told the digests of the projects' files.
    """
    trees = Trees(base / table.folder)
    try:
        state = trees.read(source_of(table)) or State("")
        loaded = checkout.load(trees.root / state.tree, ORIGIN, {}) if state.tree else Loaded({})
    except OSError as error:
        what = f"what was served last cannot be read ({os.strerror(error.errno or 0)})"
        return {}, (Problem(table.folder, 0, 0, what, "let this user read it"),)
    identify(loaded.digests)
    return loaded.projects, (*state.faults, *state.left, *loaded.problems)
