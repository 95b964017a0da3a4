"""inotify watches on a changing set of directories. The only module that uses watchfiles.

Used by `feed.folder_source` for API projects and by `watch.files` for certificates. Events are
hints only: the receiver checks the files itself.

Directories are watched one by one, not recursively. The recursive watch of the library follows all
links and blocks the whole process meanwhile (four seconds for a link to /usr). An inotify watch
belongs to a directory, not to its name. When a directory is removed, its watch is forgotten; it is
created again if the same path is covered again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

import trio
import watchfiles

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from trio_gw.watch.directory_id import DirectoryId

DEBOUNCE = 120  # maximum milliseconds during which the library collects events
STEP = 30  # milliseconds without an event after which the library delivers them
PAUSE = 0.25  # seconds between two starts of a watch that ends repeatedly
MAX_FRESH = 128  # directories in the second watch; adding one takes 25 µs of the event loop

# The library logs every batch of events at level INFO; the receivers log what is important.
logging.getLogger("watchfiles").setLevel(logging.WARNING)


class _RunningWatch:
    """One running watch and its directories. `live` is set when it has started."""

    def __init__(self, directories: frozenset[DirectoryId]) -> None:
        self.directories = directories
        self.scope = trio.CancelScope()
        self.live = False
        self.started = trio.current_time()


class Watches:
    """inotify watches on a changing set of directories.

    `problem` is set while the system refuses them. There are at most two watches: `all`, and a
    small one, `fresh`, for newer directories. So a new project does not restart the watch on
    thousands of directories.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        on_hint: Callable[[Collection[str], Collection[str]], None],
        *,
        label: str,
        retry: float,
    ) -> None:
        """`on_hint(paths, gone)` gets hints; a refused watch is tried again after `retry` s."""
        self.problem: Problem | None = None
        self._nursery = nursery
        self._label = label
        self._on_hint = on_hint
        self._epoch = 0
        self._watches = {"all": _RunningWatch(frozenset()), "fresh": _RunningWatch(frozenset())}
        self._retry = retry
        self._retry_at = 0.0

    @property
    def live(self) -> bool:
        """Whether all watches have started; false if nothing is watched."""
        used = [watch for watch in self._watches.values() if watch.directories]
        return self.problem is None and bool(used) and all(watch.live for watch in used)

    def cover(self, directories: frozenset[DirectoryId], epoch: int) -> None:
        """Watch these directories; create all watches again if the epoch has changed."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._retry_at = 0.0
            self._start("all", frozenset())
            self._start("fresh", frozenset())
        known = self._watches["all"].directories | self._watches["fresh"].directories
        if directories <= known or trio.current_time() < self._retry_at:
            return
        fresh = (self._watches["fresh"].directories & directories) | (directories - known)
        if len(fresh) <= MAX_FRESH:
            self._start("fresh", fresh)
        else:
            self._start("all", directories)
            self._start("fresh", frozenset())

    def _start(self, name: str, directories: frozenset[DirectoryId]) -> None:
        self._watches[name].scope.cancel()
        watch = self._watches[name] = _RunningWatch(directories)
        if directories:
            self._nursery.start_soon(self._run, watch)

    async def _run(self, watch: _RunningWatch) -> None:
        # The thread of the library cannot be interrupted; it checks this event.
        stop = threading.Event()
        paths = [directory.path for directory in watch.directories]
        try:
            with watch.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._notice_start, watch, stop)
                    # Do not ignore permission errors: the library reports the limit of watches
                    # as one.
                    batches = watchfiles.awatch(
                        *paths,
                        watch_filter=None,
                        debounce=DEBOUNCE,
                        step=STEP,
                        stop_event=stop,  # type: ignore[arg-type]
                        recursive=False,
                        ignore_permission_denied=False,
                    )
                    async with contextlib.aclosing(batches):
                        async for changes in batches:
                            self._batch(changes)
        except Exception as error:
            self._fail(watch, error)

    async def _notice_start(self, watch: _RunningWatch, stop: threading.Event) -> None:
        """Mark a watch as started: this task runs when `awatch` waits for the first time.

        If the watch was refused, the checkpoint raises Cancelled.
        """
        try:
            await trio.lowlevel.checkpoint()
            watch.live = True
            if all(other.live or not other.directories for other in self._watches.values()):
                self.problem = None
            # Something may have changed between the scan and the start of the watch.
            self._on_hint([directory.path for directory in watch.directories], ())
            await trio.sleep_forever()
        finally:
            stop.set()

    def _batch(self, changes: set[watchfiles.main.FileChange]) -> None:
        gone = {path for change, path in changes if change is watchfiles.Change.deleted}
        for other in self._watches.values():
            other.directories = _without(other.directories, gone)
        self._on_hint({path for _, path in changes}, gone)

    def _fail(self, watch: _RunningWatch, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        directories, watch.directories = watch.directories, frozenset()
        if watch.live or isinstance(error, FileNotFoundError):
            # A name that is not UTF-8 ended the watch, or a directory disappeared between the
            # scan and the watch. Scan and start again, but not in a tight loop.
            self._retry_at = watch.started + (PAUSE if watch.live else 0.0)
            self._on_hint([directory.path for directory in directories], ())
            return
        self._retry_at = trio.current_time() + self._retry
        text = str(error).split(" about [")[0]
        what = f"cannot be watched ({text}), so it is scanned every second"
        hint = "raise fs.inotify.max_user_watches, max_user_instances or the limit of files"
        self.problem = Problem(self._label, 0, 0, what, hint, "warning")
        self._on_hint((), ())


def _without(directories: frozenset[DirectoryId], gone: set[str]) -> frozenset[DirectoryId]:
    """Return the directories without those that are gone and those below them."""
    above = tuple(
        f"{path}/" for path in gone.intersection(directory.path for directory in directories)
    )
    return frozenset(
        directory for directory in directories if not f"{directory.path}/".startswith(above)
    )
