"""Files that are loaded again when they change, without a restart.

Started by `worker` with everything that a file of the settings is read into: certificates with
their keys, trust, key sets. A change is seen by a watch on every directory that a path leads
through, and by a look once a second for what no watch tells: a parent that is exchanged, a file
system without events. What cannot be used changes nothing: what was read before goes on serving,
one error says why, and the next good version is taken.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import trio

from trio_gw.errors import Problem, UnusableError
from trio_gw.watch.directories import Place, Watches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
    from pathlib import Path

log = logging.getLogger("trio_gw.files")

LOOK = 1.0  # seconds between two looks at all files
QUIET = 0.2  # seconds without a change before a file is read: it may still be being written
RESTLESS = 0.6  # seconds after which one is read although it never is: lines keep being added
GRACE = 2.0  # seconds in which the other half of a pair may still come, before an error is logged
RETRY = 30.0  # seconds after which what was not usable is tried again although nothing changed
# What passes without any change of the file: then it is tried again with each look.
PASSING = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),
        *(errno.EAGAIN, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    )
)
THREADS = 4  # of its own: others may wait for a dead DNS or a slow disk
LINKS = 40  # links on the way to a file, as the system itself allows

Loaded = TypeVar("Loaded")
Result = TypeVar("Result")
State = tuple[object, ...]


class Reloaded(NamedTuple, Generic[Loaded]):
    """Files that mean something together: a certificate and its key, a folder of anchors.

    `load` reads them in a worker thread and raises `UnusableError`. `use`, in the Trio thread,
    puts what was read into use and tells whether that changed anything.
    """

    what: str
    paths: tuple[Path, ...]
    load: Callable[[], Loaded]
    use: Callable[[Loaded], Awaitable[bool]]


def together(what: str, *items: Reloaded[Any]) -> Reloaded[list[Any]]:
    """Join what must change at the same moment: all of it is loaded, or nothing is used."""

    async def use(loaded: list[Any]) -> bool:
        changed = [await item.use(one) for item, one in zip(items, loaded, strict=True)]
        return any(changed)

    paths = dict.fromkeys(path for item in items for path in item.paths)
    return Reloaded(what, tuple(paths), lambda: [item.load() for item in items], use)


async def keep_loaded(
    items: Sequence[Reloaded[Any]],
    *,
    look: float = LOOK,
    quiet: float = QUIET,
    grace: float = GRACE,
    retry: float = RETRY,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Load each item again whenever its files change; runs until cancelled.

    Everything is loaded once before this reports as started: a file may have changed since the
    caller read it. A file system that hangs holds up nothing but the reloading.
    """
    threads = _Threads()
    held = [_Held(item, threads, quiet, grace, retry) for item in items]
    heard = trio.Event()

    def hear(_paths: Collection[str], _gone: Collection[str]) -> None:
        heard.set()

    async with trio.open_nursery() as nursery:
        watches = Watches(nursery, hear, label="files of the settings", retry=retry)
        first = True
        while True:
            heard = trio.Event()
            states, places = await threads.run(lambda: _look(items))
            watches.cover(places, 0)
            for one, state in zip(held, states, strict=True):
                one.saw(state, trio.current_time())
                await one.act(trio.current_time())
            if first:
                first = False
                task_status.started()
            due = min((one.due for one in held), default=math.inf)
            with trio.move_on_at(min(due, trio.current_time() + look)):
                await heard.wait()


class _Threads:
    """The threads in which files are looked at and read."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do something in a thread; here and now, if the system has none left."""
        try:
            return await trio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._limiter
            )
        except RuntimeError:
            return work()


class _Held:
    """One item: what was seen of its files, and what became of the last attempt to load them."""

    def __init__(
        self, item: Reloaded[Any], threads: _Threads, quiet: float, grace: float, retry: float
    ) -> None:
        self.item = item
        self._threads = threads
        self._quiet, self._grace, self._retry = quiet, grace, retry
        self._state: State | None = None
        self._since = math.inf  # when the first change came that was not read yet
        self._load_at = -math.inf
        self._tell_at = math.inf
        self._faults: tuple[Problem, ...] = ()
        self._told: tuple[Problem, ...] = ()

    @property
    def due(self) -> float:
        """When there is something to do next (Trio's clock)."""
        return min(self._load_at, self._tell_at)

    def saw(self, state: State, now: float) -> None:
        """Take note of the state of the files; a changed one is read once it is quiet."""
        if state != self._state:
            if self._state is not None:
                self._since = min(self._since, now)
                self._load_at = min(now + self._quiet, self._since + RESTLESS)
                self._tell_at = now + self._grace
            self._state = state

    async def act(self, now: float) -> None:
        """Load and complain, if it is time to."""
        if now >= self._load_at:
            await self._attempt(now)
        if now >= self._tell_at:
            self._tell_at = math.inf
            if self._faults != self._told:
                self._told = self._faults
                for fault in self._faults:
                    log.error("%s; what was read before stays in use", fault)

    async def _attempt(self, now: float) -> None:
        item, self._since = self.item, math.inf
        try:
            loaded = await self._threads.run(item.load)
            changed = await item.use(loaded)
        except UnusableError as error:
            faults, passing = error.problems, _is_passing(error)
        except MemoryError:
            what = "cannot be used: out of memory"
            faults, passing = (Problem(str(item.paths[0]), 0, 0, what),), True
        except Exception as error:
            # Whatever a parser makes of an odd file, it must not end the gateway.
            log.debug("%s could not be loaded", item.what, exc_info=True)
            what = f"cannot be used: {type(error).__name__}"
            faults, passing = (
                (Problem(str(item.paths[0]), 0, 0, what, "make the file anew"),),
                False,
            )
        else:
            self._load_at, self._tell_at = math.inf, math.inf
            if changed or self._told:
                log.info("%s: %s", item.what, "loaded again" if changed else "good again")
            self._faults = self._told = ()
            return
        self._faults = faults
        self._load_at = now + (min(LOOK, self._retry) if passing else self._retry)
        if self._tell_at == math.inf:
            self._tell_at = now + self._grace


def _is_passing(error: BaseException | None) -> bool:
    """Tell whether the reason, or the reason behind it, is one that passes by itself."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False


def _look(items: Iterable[Reloaded[Any]]) -> tuple[list[State], frozenset[Place]]:
    """Find the state of each item's files, and the directories whose entries decide on it."""
    places: set[Place] = set()
    states: list[State] = []
    for item in items:
        state: list[object] = []
        for path in item.paths:
            _follow(os.path.abspath(path), places)
            state.append(_state(path))
            if path.is_dir():
                _follow(os.path.abspath(path / "any"), places)
                state += sorted((name.name, _state(name)) for name in _entries(path))
        states.append(tuple(state))
    return states, frozenset(places)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _state(path: Path) -> tuple[int, ...]:
    """Tell one state of a file from another; the change time tells of a mode that was fixed."""
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


def _follow(path: str, places: set[Place]) -> None:
    """Add the directory of a path, and of everything that links lead on to."""
    for _ in range(LINKS):
        parent = os.path.realpath(os.path.dirname(path))
        try:
            found = os.stat(parent)
            places.add(Place(parent, found.st_dev, found.st_ino))
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return  # no link, or nothing there: the look once a second sees it come
