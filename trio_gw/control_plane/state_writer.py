"""Writes the last known state. One process does, which holds the lock of the folder.

A change is one record more at the end of the file: a few hundred octets. Changes are written
within a few milliseconds, those that come together in one turn, because each turn of a thread
costs more than the change. They are not synced to disk. A process that is killed loses the last
milliseconds, a power failure the last seconds; the next pull brings both again. A file that
replaces another is synced before, so that the name never leads to a file without its content.

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
from trio_gw.control_plane.appended_file import AppendedFile, is_at
from trio_gw.control_plane.state import StateChange, difference
from trio_gw.control_plane.state_file import PREFIX_OCTETS, Prefix
from trio_gw.errors import Problem
from trio_gw.feed.atomic_file import TEMPORARY, replacing
from trio_gw.feed.catalog import TimeSlices

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.control_plane.artifact_folder import ArtifactFolder
    from trio_gw.control_plane.state import ControlPlaneState
    from trio_gw.control_plane.state_reader import StateReader

log = logging.getLogger("trio_gw.control_plane")

T = TypeVar("T")

LOCK = ".lock"
RETRY = 5.0  # seconds between two attempts to write to a folder that refuses it
LOCK_RETRY = 0.25  # seconds between two attempts to get the lock
SWEEP = 60.0  # seconds between two looks for zips that are not needed
FLUSH = 0.01  # seconds between two writes: changes that come meanwhile are written together
MAX_QUEUED = 10_000  # changes that wait for a disk; with more the whole state is written instead


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
        self._turn = trio.Lock()  # held while the state changes
        self._writing = trio.Lock()
        self._queue: list[StateChange] = []  # not written yet
        self._overflowed = False  # some changes are not in the queue
        self._wake = trio.Event()
        self._limiter = trio.CapacityLimiter(1)
        self._lock: BinaryIO | None = None
        self._file: AppendedFile | None = None  # None: the whole state must be written
        self._retry_at = 0.0
        self._unused = True  # there may be zips that no state needs
        self._sweep_at = 0.0

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
                try:
                    while True:
                        await self.flush()
                        with trio.move_on_after(RETRY):
                            await self._wake.wait()
                        await trio.sleep(FLUSH)
                finally:
                    with trio.move_on_after(RETRY, shield=True):
                        await self.flush()
        finally:
            self._close()

    async def replace(self, state: ControlPlaneState) -> None:
        """Make this the current state, after a complete pull. Only the difference is written."""
        async with self._turn:
            before = self.current
            change = await trio.to_thread.run_sync(partial(difference, before, state))
            await self._make(change)
            self._unused = True

    async def change(self, change: StateChange) -> None:
        """Apply a change to the current state. It is written a moment later."""
        async with self._turn:
            await self._make(change)
            self._unused |= bool(change.artifacts)

    async def _make(self, change: StateChange) -> None:
        if change:
            after = None
            if not change.is_small:
                after = await trio.to_thread.run_sync(self.current.apply, change)
            self._reader.advance(change, after)
            self._queue.append(change)
            self._wake.set()
            if len(self._queue) > MAX_QUEUED:
                self._queue.clear()
                self._overflowed = True

    async def flush(self) -> None:
        """Write what is not written yet, and remove what is no longer needed."""
        async with self._writing:
            self._wake = trio.Event()
            if self._overflowed:
                self._overflowed = False
                self._forget_file()
            await self._append()
            if self.current.pulled_at and (self._file is None or self._file.grown):
                await self._write_all()
            now = trio.current_time()
            if self._unused and self._file is not None and now >= self._sweep_at:
                self._unused, self._sweep_at = False, now + SWEEP
                sweep = partial(self._sweep, self.current.digests())
                with contextlib.suppress(OSError):
                    await self._in_thread(sweep)

    async def _append(self) -> None:
        queue, self._queue = self._queue, []
        if (file := self._file) is None or not queue:
            return  # without a file, the whole state is written
        try:
            appended = await self._in_thread(partial(file.append, queue))
            if not appended:
                self._forget_file()
        except OSError as error:
            self._fail(error)
        except BaseException:  # cancelled before it began
            self._queue[:0] = queue
            raise

    async def _write_all(self) -> None:
        """Write the whole state to a new file, unless that has failed a moment ago."""
        if not self.opened.is_set() or trio.current_time() < self._retry_at:
            return
        # The state has changes that the file before it never had: no reader may skip the state.
        follows = not self._queue
        self._queue.clear()
        work = partial(self._replace_file, self.current, follows=follows)
        try:
            self._file = await self._in_thread(work)
        except OSError as error:
            self._fail(error)
            return
        except BaseException:  # cancelled
            self._forget_file()
            raise
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
                self._file = AppendedFile.opened(self._reader.path, file.prefix, file.end)

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
            if is_at(folder / LOCK, self._lock.fileno()):
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

    def _replace_file(self, state: ControlPlaneState, *, follows: bool) -> AppendedFile:
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
            replaces = (before.identity, before.end) if before and follows else (bytes(16), 0)
            end = file.tell()
            prefix = Prefix(state_file.new_identity(), *replaces, end, self._reader.source)
            file.seek(0)
            file.write(state_file.encode_prefix(prefix))
        if before is not None:
            before.close()
        return AppendedFile.opened(path, prefix, end)

    def _sweep(self, needed: set[str]) -> None:
        self.artifacts.sweep(needed)
        folder = self._reader.path.parent
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.name.startswith(TEMPORARY):
                    (folder / entry.name).unlink(missing_ok=True)
