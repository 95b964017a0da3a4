"""One root folder compared with what is known of it, round by round.

Driven by `feed.folder`: hints go in with `hint`, each `round` looks where they point, reads what
has been quiet for long enough, and leaves projects and problems in `snapshot`. The disk is
touched in worker threads only. Knows nothing of watches but which places deserve one.

*Events are hints, signatures are the truth.* A hint only says where to look; whether something
changed is decided by comparing signatures (`feed.store`), and when it is read by the quiet period
of that project alone (`feed.ledger`). So it does not matter whether an editor writes in place or
renames, or which events got lost: everything is looked at now and then, and the identity of the
root in every round, which shows an atomic swap of the root or of a folder above it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from trio_gw.config.project import load
from trio_gw.errors import Problem, has_errors
from trio_gw.feed import store
from trio_gw.feed.ledger import Ledger, Reading, Verdict
from trio_gw.feed.walk import remedy, text
from trio_gw.watch.directories import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from trio_gw.feed.ledger import Snapshot

log = logging.getLogger("trio_gw.feed")

T = TypeVar("T")

POLL = 0.25  # seconds between two looks at the identity of the root
BLIND_RESCAN = 1.0  # seconds between two looks at everything if no event tells what changes


class Counts(NamedTuple):
    """What was done so far: scans of names, projects read, and loaded as their bytes differed."""

    scans: int
    reads: int
    loads: int


class Tracker:
    """The projects of `root`, for which `label` stands in problems. All times in seconds.

    `places` are the directories to watch; a higher `epoch` says that watches on them are to be
    made anew, as the directories are others under the same names.
    """

    def __init__(
        self, root: Path, *, quiet: float, grace: float, rescan: float, label: str
    ) -> None:
        self.places: frozenset[Place] = frozenset()
        self.epoch = 0
        self._root = root
        self._quiet = quiet
        self._grace = grace
        self._rescan = rescan
        self._label = label
        self._ledger = Ledger(quiet=quiet, grace=grace)
        # One thread of our own: never behind others in the queue for threads.
        self._limiter = trio.CapacityLimiter(1)
        self._hints: set[str] = set()
        self._everywhere = True
        self._rescan_at = 0.0
        self._identity: Place | None = None  # None: not there, or not looked at yet
        self._known_path = ""  # where the root really was when last seen
        self._may_return = False  # the root was made anew: it may still be being filled
        self._lost_since: float | None = None
        self._lost: Problem | None = None
        self._places: dict[str, frozenset[Place]] = {}
        self._owners: dict[str, set[str]] = {}  # real directory → the projects it decides about
        self._moved = False  # `_places` changed
        self._scans = self._reads = self._loads = 0

    def counts(self) -> Counts:
        """Return the counters since the start."""
        return Counts(self._scans, self._reads, self._loads)

    def deadline(self) -> float:
        """Return when the next round is due if there is no hint."""
        poll = trio.current_time() + POLL
        if self._identity is None:
            return poll
        return min(poll, self._ledger.deadline(), self._rescan_at)

    def hint(self, paths: Iterable[str], gone: Iterable[str] = ()) -> None:
        """Look at the projects that these paths may belong to; `gone` were removed or moved."""
        if self._identity is None:
            return
        root = self._identity.path
        for path in paths:
            parent, name = os.path.split(path)
            if path == root or not path.startswith(root.rstrip("/") + "/"):
                self._everywhere = True
            elif parent == root:
                # Through a dot-name (`..data`) the files of any project may be reached.
                self._everywhere |= name.startswith(".")
                self._hints.add(name)
            self._hints |= self._owners.get(path, set()) | self._owners.get(parent, set())
        if root in gone:
            self._identity = None  # Made anew it may look the same, down to the inode number.

    async def round(self, *, wait: float, blind: bool) -> None:
        """Do what is due. `wait`: the quiet period; `blind`: there may be no hints."""
        if blind:
            # A watch that was lost must not leave us with the long interval.
            self._rescan_at = min(self._rescan_at, trio.current_time() + BLIND_RESCAN)
        try:
            await self._find_root()
            await self._look(wait, blind=blind)
            await self._settle()
        except OSError as error:
            # Nothing inside the root raises, so it is the root itself that cannot be read.
            self._lose(error, wait)

    def distrust(self) -> None:
        """Look at everything in the next round: a hint may have been lost."""
        self._everywhere = True

    def is_held(self) -> bool:
        """Tell whether the snapshot had better wait for others of the same burst."""
        return self._identity is not None and self._ledger.is_held()

    def snapshot(self) -> Snapshot:
        """Return the good projects by name, and all current problems."""
        projects, problems = self._ledger.snapshot()
        lost = () if self._lost is None else (self._lost,)
        return projects, lost + problems

    def digests(self) -> dict[str, bytes]:
        """Return the digests of the files of all projects, as they were last read."""
        return {name: self._ledger.digest(name) for name in self._ledger}

    async def _find_root(self) -> None:
        identity = await self._in_thread(partial(_identify, self._root))
        if identity == self._identity:
            return
        # Removed and made again in place, it is most likely being filled: what is missing gets
        # the grace. Swapped by a link it is complete.
        again = self._lost_since is not None or identity.path == self._known_path
        self._may_return = self._known_path != "" and again
        self._known_path = identity.path
        self._identity = identity
        self._everywhere = True
        self.epoch += 1

    def _lose(self, error: OSError, wait: float) -> None:
        now = trio.current_time()
        self._identity = None
        self.places = frozenset()
        if self._lost_since is None:
            self._lost_since = now
        if now - self._lost_since >= wait:  # else maybe only between `rm` and `ln`
            self._lost = lost_problem(self._label, error)

    async def _look(self, wait: float, *, blind: bool) -> None:
        """Compare the disk with the ledger, where hints or the clock say so."""
        rescan = trio.current_time() >= self._rescan_at
        if not (self._everywhere or rescan or self._hints):
            return
        hinted = self._everywhere
        everywhere = hinted or rescan
        names, self._hints, self._everywhere = self._hints, set(), False
        changed = await self._scan(None if everywhere else frozenset(names), wait)
        if everywhere:
            self._may_return = False
            interval = min(BLIND_RESCAN, self._rescan) if blind else self._rescan
            self._rescan_at = trio.current_time() + interval
            if changed and not hinted and not blind:
                self.epoch += 1  # A change of which no event told: the watches see no longer.
        self._lost_since = self._lost = None

    async def _scan(self, only: frozenset[str] | None, wait: float) -> bool:
        """Scan all projects, or `only` some; enter them. Return whether something changed."""
        assert self._identity is not None
        self._scans += 1
        path = self._identity.path
        listing = await self._in_thread(partial(store.scan, path, label=self._label, only=only))
        now = trio.current_time()
        self._place("", frozenset((listing.place,)))
        changed = False
        for name in {*self._ledger, *listing.projects} if only is None else only:
            sighting = listing.projects.get(name)
            if sighting is None:
                self._place(name, frozenset())
                patience = self._grace if self._may_return else wait
                changed |= self._ledger.saw(name, None, now, wait=patience)
            else:
                self._place(name, sighting.places)
                changed |= self._ledger.saw(name, sighting.signature, now, wait=wait)
        if self._moved or not self.places:
            self._moved = False
            self._owners = {}
            for name, places in self._places.items():
                for place in places if name else ():
                    self._owners.setdefault(place.path, set()).add(name)
            self.places = frozenset().union(*self._places.values())
        return changed

    def _place(self, name: str, places: frozenset[Place]) -> None:
        if self._places.get(name, frozenset()) != places:
            self._moved = True
            if places:
                self._places[name] = places
            else:
                del self._places[name]

    async def _settle(self) -> None:
        """Read the projects whose quiet period is over; drop those that stayed away."""
        assert self._identity is not None
        ledger = self._ledger
        if gone := [name for name in ledger.due(trio.current_time()) if ledger.is_gone(name)]:
            await self._scan(frozenset(gone), self._quiet)  # Raises if the root went as well.
        for name in ledger.due(trio.current_time()):
            if ledger.is_gone(name):
                ledger.drop(name, trio.current_time())
                continue
            known = ledger.digest(name)
            reading = await self._in_thread(
                partial(examine, self._identity.path, name, self._label, known)
            )
            self._reads += 1
            self._loads += reading is not None and reading.verdict is not None
            ledger.take(name, reading, trio.current_time())
        ledger.ripen(trio.current_time())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # It only reads: at the end nobody waits for a file system that hangs.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)


def lost_problem(label: str, error: OSError) -> Problem:
    """Say that the root itself cannot be read."""
    what = f"the folder of API projects cannot be read ({os.strerror(error.errno or 0)})"
    hint = f"create it, or {remedy(error)}; what was loaded from it is kept"
    return Problem(label, 0, 0, what, hint)


def examine(root: str | os.PathLike[str], name: str, label: str, known: bytes) -> Reading | None:
    """Read a project and load it, unless its digest is `known`; None if it is gone. Blocks.

    Raises OSError if the root is gone.
    """
    contents = store.read(root, name, label=label)
    if contents is None:
        return None
    digest = _digest(contents)
    if digest == known or not contents.steady:
        return Reading(contents.signature, contents.steady, digest, None)
    folder = f"{label}/{text(name)}"
    try:
        loaded = load(contents.files, folder, os.environ)
    except Exception:
        # It promises never to raise. Should it do so, the other projects must not suffer.
        log.exception("loading %s failed", folder)
        what = "cannot be loaded because of a fault in the gateway"
        problem = Problem(folder, 0, 0, what, "report it; the log has the details")
        verdict = Verdict(None, (*contents.problems, problem), hasty=False)
    else:
        # A file that could not be read may come as well as one that is missing. That it is
        # missing for the loader says nothing new.
        broken = has_errors(contents.problems)
        project = None if broken or loaded.incomplete else loaded.project
        more = () if broken and loaded.incomplete else loaded.problems
        hasty = broken or loaded.incomplete
        verdict = Verdict(project, (*contents.problems, *more), hasty=hasty)
    return Reading(contents.signature, True, digest, verdict)


def _digest(contents: store.Contents) -> bytes:
    digest = hashlib.sha256()
    for path, data in sorted(contents.files.items()):
        digest.update(f"{len(path.encode())} {path} {len(data)} ".encode())
        digest.update(data)
    for problem in contents.problems:
        digest.update(str(problem).encode())
    return digest.digest()


def _identify(root: Path) -> Place:
    real = os.path.realpath(root, strict=True)
    state = os.stat(real)
    return Place(real, state.st_dev, state.st_ino)
