"""Files that are loaded again when they change, without a restart.

Started by the worker for all files that the settings refer to: certificates with their keys, trust
anchors, key sets. Changes are found by watches on every directory on the path, and by a check once
a second for changes without events: a parent directory that is replaced, or a file system without
events. A file that is not usable changes nothing: the content loaded before stays in use, one
error is logged with the reason, and the next good version is used.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import trio

from trio_gw.errors import Problem, UnusableError
from trio_gw.watch.directories import Watches
from trio_gw.watch.directory_id import DirectoryId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
    from pathlib import Path

log = logging.getLogger("trio_gw.files")

POLL = 1.0  # seconds between two checks of all files
QUIET = 0.2  # seconds without a change before a file is read, as it may still be being written
MAX_QUIET = 0.6  # seconds after which a file that keeps changing is read anyway
GRACE = 2.0  # seconds to wait for the other file of a pair before an error is logged
RETRY = 30.0  # seconds after which an unusable file is loaded again even if it has not changed
# Errors that can disappear without a change of the file: it is loaded again with each check.
TEMPORARY = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),
        *(errno.EAGAIN, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    )
)
THREADS = 4  # separate ones: others may wait for an unreachable DNS server or a slow disk
LINKS = 40  # links in the path of a file, the same limit as in Linux

Loaded = TypeVar("Loaded")
Result = TypeVar("Result")
FileState = tuple[object, ...]


class Reloaded(NamedTuple, Generic[Loaded]):
    """Files that belong together: a certificate and its key, a folder of trust anchors.

    `load` reads them in a worker thread and raises `UnusableError`. `use` runs in the Trio thread,
    puts the loaded value into use and returns whether that changed anything.
    """

    what: str
    paths: tuple[Path, ...]
    load: Callable[[], Loaded]
    use: Callable[[Loaded], Awaitable[bool]]


def combined(what: str, *items: Reloaded[Any]) -> Reloaded[list[Any]]:
    """Combine items that must change at the same time: all are loaded, or none is used."""

    async def use(loaded: list[Any]) -> bool:
        changed = [await item.use(one) for item, one in zip(items, loaded, strict=True)]
        return any(changed)

    paths = dict.fromkeys(path for item in items for path in item.paths)
    return Reloaded(what, tuple(paths), lambda: [item.load() for item in items], use)


async def keep_loaded(
    items: Sequence[Reloaded[Any]],
    *,
    poll: float = POLL,
    quiet: float = QUIET,
    grace: float = GRACE,
    retry: float = RETRY,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Load each item again whenever its files change; runs until cancelled.

    Everything is loaded once before this reports as started, because a file may have changed since
    the caller read it. A file system that hangs delays nothing else.
    """
    threads = _Threads()
    watched = [_WatchedItem(item, threads, quiet, grace, retry) for item in items]
    changed = trio.Event()

    def on_hint(_paths: Collection[str], _gone: Collection[str]) -> None:
        changed.set()

    async with trio.open_nursery() as nursery:
        watches = Watches(nursery, on_hint, label="files of the settings", retry=retry)
        first = True
        while True:
            changed = trio.Event()
            states, directories = await threads.run(lambda: _check(items))
            watches.cover(directories, 0)
            for one, state in zip(watched, states, strict=True):
                one.observe(state, trio.current_time())
                await one.act(trio.current_time())
            if first:
                first = False
                task_status.started()
            due = min((one.due for one in watched), default=math.inf)
            with trio.move_on_at(min(due, trio.current_time() + poll)):
                await changed.wait()


class _Threads:
    """The threads that check and read files."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` in a thread, or in this thread if the system allows no more threads."""
        try:
            return await trio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._limiter
            )
        except RuntimeError:
            return work()


class _WatchedItem:
    """One item: the last state of its files, and the result of the last attempt to load them."""

    def __init__(
        self, item: Reloaded[Any], threads: _Threads, quiet: float, grace: float, retry: float
    ) -> None:
        self.item = item
        self._threads = threads
        self._quiet, self._grace, self._retry = quiet, grace, retry
        self._state: FileState | None = None
        self._since = math.inf  # time of the first change that has not been read
        self._load_at = -math.inf
        self._report_at = math.inf
        self._faults: tuple[Problem, ...] = ()
        self._reported: tuple[Problem, ...] = ()

    @property
    def due(self) -> float:
        """The time of the next action (Trio's clock)."""
        return min(self._load_at, self._report_at)

    def observe(self, state: FileState, now: float) -> None:
        """Enter the state of the files; after a change they are read when they are quiet."""
        if state != self._state:
            if self._state is not None:
                self._since = min(self._since, now)
                self._load_at = min(now + self._quiet, self._since + MAX_QUIET)
                self._report_at = now + self._grace
            self._state = state

    async def act(self, now: float) -> None:
        """Load the files and log errors, if due."""
        if now >= self._load_at:
            await self._attempt(now)
        if now >= self._report_at:
            self._report_at = math.inf
            if self._faults != self._reported:
                self._reported = self._faults
                for fault in self._faults:
                    log.error("%s; the content loaded before stays in use", fault)

    async def _attempt(self, now: float) -> None:
        item, self._since = self.item, math.inf
        try:
            loaded = await self._threads.run(item.load)
            changed = await item.use(loaded)
        except UnusableError as error:
            faults, temporary = error.problems, _is_temporary(error)
        except MemoryError:
            what = "cannot be used: out of memory"
            faults, temporary = (Problem(str(item.paths[0]), 0, 0, what),), True
        except Exception as error:
            # An unexpected error of a parser must not end the gateway.
            log.debug("%s could not be loaded", item.what, exc_info=True)
            what = f"cannot be used: {type(error).__name__}"
            faults, temporary = (
                (Problem(str(item.paths[0]), 0, 0, what, "create the file again"),),
                False,
            )
        else:
            self._load_at, self._report_at = math.inf, math.inf
            if changed or self._reported:
                log.info("%s: %s", item.what, "loaded again" if changed else "usable again")
            self._faults = self._reported = ()
            return
        self._faults = faults
        self._load_at = now + (min(POLL, self._retry) if temporary else self._retry)
        if self._report_at == math.inf:
            self._report_at = now + self._grace


def _is_temporary(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, can disappear without a change."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in TEMPORARY:
            return True
        error = error.__cause__ or error.__context__
    return False


def _check(items: Iterable[Reloaded[Any]]) -> tuple[list[FileState], frozenset[DirectoryId]]:
    """Return the state of each item's files, and all directories on their paths."""
    directories: set[DirectoryId] = set()
    states: list[FileState] = []
    for item in items:
        state: list[object] = []
        for path in item.paths:
            _follow(os.path.abspath(path), directories)
            state.append(_state(path))
            if path.is_dir():
                _follow(os.path.abspath(path / "any"), directories)
                state += sorted((name.name, _state(name)) for name in _entries(path))
        states.append(tuple(state))
    return states, frozenset(directories)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _state(path: Path) -> tuple[int, ...]:
    """Return values that identify the state of a file; the change time covers a changed mode."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def _follow(path: str, directories: set[DirectoryId]) -> None:
    """Add the directory of a path, and those of all links on the way."""
    for _ in range(LINKS):
        parent = os.path.realpath(os.path.dirname(path))
        try:
            found = os.stat(parent)
            directories.add(DirectoryId(parent, found.st_dev, found.st_ino))
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return  # not a link, or missing: the check once a second finds it
