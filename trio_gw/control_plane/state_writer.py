"""Writes the last known state. One process does, which holds the lock of the folder.

A change is one record more at the end of the file: a few hundred octets. It is not synced to disk.
A process that is killed loses nothing, because the system has the octets; a power failure loses
the last changes, which the next pull brings again. A file that replaces another is synced before,
so that the name never leads to a file without its content.

If the folder cannot be written, the state goes on in this process, `problems` has the reason, and
every few seconds the whole state is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import trio

from trio_gw.config import regular
from trio_gw.control_plane import state_file
from trio_gw.control_plane.state import StateChange, difference
from trio_gw.control_plane.state_file import PREFIX_OCTETS, Prefix
from trio_gw.errors import Problem
from trio_gw.feed.atomic_file import TEMPORARY, replacing
from trio_gw.feed.catalog import TimeSlices

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.control_plane.artifact_folder import ArtifactFolder
    from trio_gw.control_plane.state import ControlPlaneState
    from trio_gw.control_plane.state_reader import StateReader

log = logging.getLogger("trio_gw.control_plane")

T = TypeVar("T")

LOCK = ".lock"
RETRY = 5.0  # seconds between two attempts to write to a folder that refuses it
LOCK_RETRY = 0.25  # seconds between two attempts to get the lock
GROWN = 1 << 20  # octets of changes, at least, before the file is written anew


class StateWriter:
    """The writer of one process. `reader` is its reader, and holds the state.

    `opened` is set when this process writes the file, or has found that it cannot. `on_problems`
    is called when `problems` change.
    """

    def __init__(self, reader: StateReader, artifacts: ArtifactFolder, label: str) -> None:
        self.artifacts = artifacts
        self.opened = trio.Event()
        self.problems: tuple[Problem, ...] = ()
        self.on_problems: Callable[[tuple[Problem, ...]], None] = lambda problems: None
        self._reader = reader
        self._label = label
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._lock: BinaryIO | None = None
        self._file: _Appended | None = None  # None: the whole state must be written
        self._retry_at = 0.0
        self._unused = True  # there may be zips that no state needs

    @property
    def current(self) -> ControlPlaneState:
        """The state after all changes."""
        return self._reader.current

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the lock of the folder and write to it until cancelled.

        Started at once. While another process has the lock, the reader follows that.
        """
        task_status.started()
        try:
            await self._wait_for_lock()
            async with self._reader.exclusive:
                await self._reader.refresh()
                self._continue()
                self.opened.set()
                while True:
                    async with self._turn:
                        await self._tend()
                    await trio.sleep(RETRY)
        finally:
            self._close()

    async def replace(self, state: ControlPlaneState) -> None:
        """Make this the current state, after a complete pull. Only the difference is written."""
        async with self._turn:
            before = self.current
            change = await self._in_thread(partial(difference, before, state))
            await self._make(change)
            self._unused = True

    async def change(self, change: StateChange) -> None:
        """Apply a change to the current state."""
        async with self._turn:
            await self._make(change)
            self._unused |= bool(change.artifacts)

    async def _make(self, change: StateChange) -> None:
        if not change:
            return
        if self._file is not None:
            try:
                if not await self._in_thread(partial(self._file.append, change)):
                    self._forget_file()
            except OSError as error:
                self._fail(error)
        self._reader.advance(change)
        if self._file is None or self._file.grown:
            await self._write_all()

    async def _tend(self) -> None:
        """Write what could not be written, and remove what is no longer needed."""
        if self._file is None and self.current.pulled_at:
            await self._write_all()
        if self._unused and self._file is not None:
            self._unused = False
            sweep = partial(self._sweep, self.current.digests())
            with contextlib.suppress(OSError):
                await self._in_thread(sweep)

    async def _write_all(self) -> None:
        """Write the whole state to a new file, unless that has failed a moment ago."""
        if not self.opened.is_set() or trio.current_time() < self._retry_at:
            return
        try:
            self._file = await self._in_thread(partial(self._replace_file, self.current))
        except OSError as error:
            self._fail(error)
            return
        if self.problems:
            self._set_problems(())
            log.info("%s can be written again", self._label)

    def _fail(self, error: OSError) -> None:
        self._forget_file()
        self._retry_at = trio.current_time() + RETRY
        what = f"the state of the control plane cannot be written ({error.strerror})"
        hint = (
            "give the gateway's user write access and space there, or set another"
            " control_plane.cache; until then a restart and other workers have an older state"
        )
        problem = Problem(self._label, 0, 0, what, hint)
        if self.problems != (problem,):
            self._set_problems((problem,))
            log.error("%s", problem)

    def _set_problems(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        self.on_problems(problems)

    def _forget_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _continue(self) -> None:
        """Append to the file that was read, if it is whole."""
        file = self._reader.file
        if file is not None and file.whole and self._lock is not None:
            with contextlib.suppress(OSError):
                self._file = _Appended.opened(self._reader.path, file.prefix, file.end)

    # -- the lock ------------------------------------------------------------------------------

    async def _wait_for_lock(self) -> None:
        said = False
        while True:
            try:
                if await self._in_thread(self._try_lock):
                    return
            except OSError as error:
                self._fail(error)
                return
            if not said:
                said = True
                log.info("another process writes %s; this one follows it", self._label)
            await trio.sleep(LOCK_RETRY)

    def _try_lock(self) -> bool:
        """Take the lock of the folder; False if another process has it. Raises OSError."""
        folder = self._reader.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock is not None:
            if _is_at(folder / LOCK, self._lock.fileno()):
                return True
            self._lock.close()  # the folder was removed
            self._lock = None
        file: BinaryIO = open(folder / LOCK, "ab", opener=regular.opener)  # noqa: SIM115
        try:
            os.fchmod(file.fileno(), 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except BaseException:
            file.close()
            raise
        self._lock = file
        return True

    def _close(self) -> None:
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None
        self._retry_at = 0.0

    # -- in a thread ---------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _replace_file(self, state: ControlPlaneState) -> _Appended:
        """Replace the file by one with this state. Raises OSError."""
        if not self._try_lock():
            raise BlockingIOError(errno.EAGAIN, "another process writes there")
        before = self._file
        path, pause = self._reader.path, TimeSlices().pause
        with replacing(path) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(bytes(PREFIX_OCTETS))
            for record in state_file.encode(state.as_change()):
                file.write(record)
                pause()
            replaces = (bytes(16), 0) if before is None else (before.identity, before.end)
            end = file.tell()
            prefix = Prefix(state_file.new_identity(), *replaces, end, self._reader.source)
            file.seek(0)
            file.write(state_file.encode_prefix(prefix))
        if before is not None:
            before.close()
        return _Appended.opened(path, prefix, end)

    def _sweep(self, needed: set[str]) -> None:
        self.artifacts.sweep(needed)
        folder = self._reader.path.parent
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.name.startswith(TEMPORARY):
                    (folder / entry.name).unlink(missing_ok=True)


class _Appended:
    """The file that changes are appended to. Its methods block."""

    def __init__(self, path: Path, descriptor: int, prefix: Prefix, end: int) -> None:
        self.identity = prefix.identity
        self.end = end
        self._path = path
        self._descriptor = descriptor
        self._start = prefix.state_end

    @classmethod
    def opened(cls, path: Path, prefix: Prefix, end: int) -> _Appended:
        """Open the file with this prefix. Raises OSError."""
        return cls(path, os.open(path, os.O_WRONLY | os.O_CLOEXEC), prefix, end)

    @property
    def grown(self) -> bool:
        """Whether there are more changes than the file should have."""
        return self.end - self._start > max(GROWN, self._start)

    def append(self, change: StateChange) -> bool:
        """Append a change; False if the file was removed or replaced. Raises OSError."""
        if not _is_at(self._path, self._descriptor):
            return False
        data = b"".join(state_file.encode(change))
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], self.end + done)
        self.end += done
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still that with this path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
