"""Follows the file of the last known state: every worker has one reader.

The first worker also writes the file (`state_writer`). Then its reader does not read, and takes
each change from the writer: the process holds the state once.
"""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import trio

from trio_gw.config import regular
from trio_gw.control_plane import state_file
from trio_gw.control_plane.state import EMPTY_STATE, ControlPlaneState, StateChange, difference
from trio_gw.feed.catalog import TimeSlices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trio_gw.config.control_plane import ControlPlaneSettings
    from trio_gw.control_plane.state_file import Prefix

log = logging.getLogger("trio_gw.control_plane")

STATE = "state"  # the name of the file
POLL = 0.1  # seconds between two checks of the file
MAX_PENDING = 4096  # changes that wait for the one who takes them


class Taken(NamedTuple):
    """Changes since the last ones were taken, and the state after them.

    `changes` is None if there were too many: the difference between the states tells them.
    """

    state: ControlPlaneState
    changes: Sequence[StateChange] | None


class _Reading(NamedTuple):
    """What was read: changes, and the state after them; None if there are none."""

    changes: list[StateChange]
    state: ControlPlaneState | None = None


class _OpenFile:
    """One file of the state, and how far it has been read."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises OSError, ValueError if it is not usable."""
        self.file: BinaryIO = open(path, "rb", buffering=0, opener=regular.opener)  # noqa: SIM115
        try:
            found = os.fstat(self.file.fileno())
            self.inode = found.st_dev, found.st_ino
            self.prefix: Prefix = state_file.decode_prefix(
                os.pread(self.file.fileno(), state_file.PREFIX_OCTETS, 0)
            )
        except BaseException:
            self.file.close()
            raise
        self.end = state_file.PREFIX_OCTETS
        self.size = 0  # at the last reading
        self._seen = (0, 0)  # size and time of change at the last reading
        self.damaged = False

    def read(self, pause: Callable[[], None]) -> list[StateChange]:
        """Return the changes after those that were read. Raises OSError."""
        found_now = os.fstat(self.file.fileno())
        if (seen := (found_now.st_size, found_now.st_mtime_ns)) == self._seen:
            return []
        self._seen, self.size = seen, found_now.st_size
        data = b"".join(_pieces(self.file.fileno(), self.end, self.size))
        found = state_file.decode(data, pause)
        self.end += found.end
        self.damaged |= found.damaged
        return found.changes

    @property
    def whole(self) -> bool:
        """Whether all octets that were there have been read, and are good."""
        return not self.damaged and self.end == self.size >= self.prefix.state_end


class StateReader:
    """The state of one process. `folder` has the file; `source` names the control plane.

    A file of another control plane is not used. `label` is the name of the folder in messages.
    """

    def __init__(self, folder: Path, source: str, label: str) -> None:
        self.current = EMPTY_STATE
        self.path = folder / STATE
        self.source = source_id(source)
        self.exclusive = trio.Lock()  # held by the writer: the reader does not read
        self.file: _OpenFile | None = None
        self._label = label
        self._rejected: tuple[int, int] | None = None
        self._pending: list[StateChange] | None = []
        self._arrived = trio.Event()
        self._limiter = trio.CapacityLimiter(1)
        self._failed = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the file until cancelled. Started when it has been read once."""
        try:
            async with self.exclusive:
                await self.refresh()
            task_status.started()
            while True:
                await trio.sleep(POLL)
                async with self.exclusive:
                    await self.refresh()
        finally:
            if self.file is not None:
                self.file.file.close()
                self.file = None

    async def refresh(self) -> None:
        """Read what is new. Hold `exclusive`."""
        current = self.current
        found = await trio.to_thread.run_sync(lambda: self._read(current), limiter=self._limiter)
        if found.state is not None:
            self._set(found.state, found.changes)

    def advance(self, change: StateChange, state: ControlPlaneState | None = None) -> None:
        """Take a change that the writer has made, and the state after it. Hold `exclusive`.

        Without the state the change is applied here, which is slow for a large one.
        """
        self._set(self.current.apply(change) if state is None else state, [change])

    async def wait_changed(self) -> None:
        """Return when there are changes to take. Only one task may wait and take."""
        await self._arrived.wait()

    def take(self) -> Taken:
        """Return the changes since the last call."""
        self._arrived = trio.Event()
        pending, self._pending = self._pending, []
        return Taken(self.current, pending)

    def _set(self, state: ControlPlaneState, changes: list[StateChange]) -> None:
        self.current = state
        if self._pending is not None:
            self._pending += changes
            if len(self._pending) > MAX_PENDING:
                self._pending = None
        self._arrived.set()

    # -- in a thread ---------------------------------------------------------------------------

    def _read(self, current: ControlPlaneState) -> _Reading:
        try:
            found = self._read_file(current, TimeSlices().pause)
        except OSError as error:
            self._say(f"cannot be read ({os.strerror(error.errno or 0)})")
            return _Reading([])
        if found.changes and found.state is None:
            return found._replace(state=current.apply_all(found.changes))
        return found

    def _read_file(self, current: ControlPlaneState, pause: Callable[[], None]) -> _Reading:
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return _Reading([])
        file, inode = self.file, (found.st_dev, found.st_ino)
        if file is not None and inode == file.inode:
            return _Reading(file.read(pause))
        if inode == self._rejected:
            return _Reading([])
        # A new file replaces the one that was read; first comes the rest of that.
        changes = [] if file is None else file.read(pause)
        new = self._open(inode)
        if new is None:
            return _Reading(changes)
        if file is not None:
            file.file.close()
            same = new.prefix.replaces == file.prefix.identity
            if same and new.prefix.replaced_octets == file.end and not file.damaged:
                new.end = new.prefix.state_end
                return _Reading([*changes, *new.read(pause)])
        state = EMPTY_STATE.apply_all(new.read(pause))
        if not new.whole:
            self._say("is damaged; the rest of it is used until API Manager has answered")
        change = difference(current, state)
        return _Reading([change] if change else [], state)

    def _open(self, inode: tuple[int, int]) -> _OpenFile | None:
        """Open the current file; None if it cannot be used."""
        try:
            new = _OpenFile(self.path)
        except OSError as error:
            self._say(f"cannot be read ({os.strerror(error.errno or 0)})")
            return None
        except ValueError as error:
            self._rejected = inode
            self._say(f"is not used: {error}")
            return None
        if new.prefix.source != self.source:
            new.file.close()
            self._rejected = inode
            self._say("is not used: it is of another control plane, or of other environments")
            return None
        self.file, self._rejected = new, None
        return new

    def _say(self, what: str) -> None:
        if what != self._failed:
            self._failed = what
            log.warning("%s/%s %s", self._label, STATE, what)


def source_of(table: ControlPlaneSettings) -> str:
    """Name a control plane: what another one says, or for other environments, is of no use."""
    return " ".join((table.url, table.tenant, *sorted(table.environments)))


def source_id(source: str) -> bytes:
    """Return 16 octets that identify a control plane."""
    return hashlib.sha256(source.encode()).digest()[:16]


def _pieces(descriptor: int, start: int, end: int) -> list[bytes]:
    """Read a range of a file."""
    found = []
    while start < end and (data := os.pread(descriptor, end - start, start)):
        found.append(data)
        start += len(data)
    return found
