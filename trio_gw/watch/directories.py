"""inotify watches on a changing set of directories: the one door to watchfiles.

Used by `feed.folder` for API projects and by `watch.files` for certificates. What a watch tells
is a hint only: who gets it looks for itself.

Watched are directories one by one and not recursively: the recursive watch of the library
follows links wherever they lead, and holds up the whole process meanwhile (a link to /usr: four
seconds). An inotify watch belongs to a directory, not to its name: once a name is gone its watch
is forgotten, and made anew if it is covered again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

import trio
import watchfiles

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

DEBOUNCE = 120  # milliseconds over which the library gathers events at most
STEP = 30  # milliseconds without an event after which it hands them over
PAUSE = 0.25  # seconds between two beginnings of a watch that keeps ending by itself
FRESH = 128  # directories watched beside the others; making a watch takes 25 µs of the loop

# The library logs every batch of events at level INFO; what matters is logged by who listens.
logging.getLogger("watchfiles").setLevel(logging.WARNING)


class Place(NamedTuple):
    """A real directory that is worth watching."""

    path: str
    device: int
    inode: int


class _Slot:
    """One running watch: its directories, and how to end it. `live` once it has begun."""

    def __init__(self, places: frozenset[Place]) -> None:
        self.places = places
        self.scope = trio.CancelScope()
        self.live = False
        self.begun = trio.current_time()


class Watches:
    """inotify watches on a changing set of directories.

    `problem` is set while they cannot be had. Two running watches at most: `all`, and a small
    one for directories that are newer, so that a project more does not mean a watch more on
    each of thousands.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        heard: Callable[[Collection[str], Collection[str]], None],
        *,
        label: str,
        retry: float,
    ) -> None:
        """`heard(paths, gone)` is called with hints; a refused watch is tried every `retry` s."""
        self.problem: Problem | None = None
        self._nursery = nursery
        self._label = label
        self._heard = heard
        self._epoch = 0
        self._slots = {"all": _Slot(frozenset()), "fresh": _Slot(frozenset())}
        self._retry = retry
        self._retry_at = 0.0

    @property
    def live(self) -> bool:
        """Tell whether something is watched, and nothing is about to be."""
        used = [slot for slot in self._slots.values() if slot.places]
        return self.problem is None and bool(used) and all(slot.live for slot in used)

    def cover(self, places: frozenset[Place], epoch: int) -> None:
        """Watch these directories; all of them anew if the epoch is another one."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._retry_at = 0.0
            self._start("all", frozenset())
            self._start("fresh", frozenset())
        known = self._slots["all"].places | self._slots["fresh"].places
        if places <= known or trio.current_time() < self._retry_at:
            return
        fresh = (self._slots["fresh"].places & places) | (places - known)
        if len(fresh) <= FRESH:
            self._start("fresh", fresh)
        else:
            self._start("all", places)
            self._start("fresh", frozenset())

    def _start(self, name: str, places: frozenset[Place]) -> None:
        self._slots[name].scope.cancel()
        slot = self._slots[name] = _Slot(places)
        if places:
            self._nursery.start_soon(self._listen, slot)

    async def _listen(self, slot: _Slot) -> None:
        # The thread in which the library waits cannot be interrupted; it asks this instead.
        stop = threading.Event()
        paths = [place.path for place in slot.places]
        try:
            with slot.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._attend, slot, stop)
                    # Permission errors are not to be ignored: the library would take the limit
                    # of watches for one.
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
            self._fail(slot, error)

    async def _attend(self, slot: _Slot, stop: threading.Event) -> None:
        """Note that a watch has begun: this task runs when `awatch` waits for the first time.

        Had it been refused, the checkpoint would raise Cancelled.
        """
        try:
            await trio.lowlevel.checkpoint()
            slot.live = True
            if all(other.live or not other.places for other in self._slots.values()):
                self.problem = None
            # Between the scan and the watch something may have changed.
            self._heard([place.path for place in slot.places], ())
            await trio.sleep_forever()
        finally:
            stop.set()

    def _batch(self, changes: set[watchfiles.main.FileChange]) -> None:
        gone = {path for change, path in changes if change is watchfiles.Change.deleted}
        for other in self._slots.values():
            other.places = _without(other.places, gone)
        self._heard({path for _, path in changes}, gone)

    def _fail(self, slot: _Slot, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        places, slot.places = slot.places, frozenset()
        if slot.live or isinstance(error, FileNotFoundError):
            # A name that is not UTF-8 ends a watch, or a directory went away between the scan
            # and the watch. Scan again and watch anew, but not in a tight loop.
            self._retry_at = slot.begun + (PAUSE if slot.live else 0.0)
            self._heard([place.path for place in places], ())
            return
        self._retry_at = trio.current_time() + self._retry
        text = str(error).split(" about [")[0]
        what = f"cannot be watched ({text}), so it is read through every second"
        hint = "raise the limits fs.inotify.max_user_watches and max_user_instances, or of files"
        self.problem = Problem(self._label, 0, 0, what, hint, "warning")
        self._heard((), ())


def _without(places: frozenset[Place], gone: set[str]) -> frozenset[Place]:
    """Leave out the directories that are gone, and what was below them."""
    above = tuple(f"{path}/" for path in gone.intersection(place.path for place in places))
    return frozenset(place for place in places if not f"{place.path}/".startswith(above))
