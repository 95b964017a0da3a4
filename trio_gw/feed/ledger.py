"""What is known of every project of a folder, and what is due when. No I/O, no clock.

`feed.folder` enters what it saw (`saw`) and what it read (`take`), asks which projects have been
quiet for long enough to be read (`due`), and publishes `snapshot`. All times are seconds of one
monotonic clock.

The life of a project. A change of its signature starts its *quiet period*; every further change
starts it anew, for this project alone. Then it is read. A good one replaces the good one before
it. A broken one leaves that in place and brings its problems, at once if they are plain, but only
`grace` seconds after the last change if it may be half copied (*hasty*). A project that is gone
waits for its quiet period too: whoever replaces a folder removes it first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.api import ApiProject
    from trio_gw.feed.walk import Signature

Snapshot = tuple[dict[str, "ApiProject"], tuple[Problem, ...]]


class Verdict(NamedTuple):
    """What loading came to: a project, or only problems. `hasty`: it may be half copied."""

    project: ApiProject | None
    problems: tuple[Problem, ...]
    hasty: bool


class Reading(NamedTuple):
    """One reading of a project; `verdict` is None if the digest is the one already known."""

    signature: Signature
    steady: bool
    digest: bytes
    verdict: Verdict | None


class _Entry:
    """One project. `signature` None: it is gone. `due` None: nothing to read."""

    __slots__ = ("changed", "digest", "due", "good", "problems", "signature", "since", "withheld")

    def __init__(self, signature: Signature | None) -> None:
        self.signature = signature
        self.digest = b""
        self.good: ApiProject | None = None
        self.problems: tuple[Problem, ...] = ()
        self.withheld: tuple[Problem, ...] | None = None
        self.changed = -math.inf
        self.since = -math.inf  # the first change of the burst that is going on
        self.due: float | None = None


class Ledger:
    """The projects of one folder. `quiet` and `grace` in seconds."""

    def __init__(self, *, quiet: float, grace: float) -> None:
        self._quiet = quiet
        self._grace = grace
        self._entries: dict[str, _Entry] = {}
        self.changed_at: float | None = None  # since when the snapshot waits to be published

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def saw(self, name: str, signature: Signature | None, now: float, *, wait: float) -> bool:
        """Enter what a scan saw; None if it is gone. Return whether that is a change.

        `wait` is how long it must stay so before it counts: the quiet period, or longer.
        """
        entry = self._entries.get(name)
        if entry is None:
            if signature is None:
                return False
            entry = self._entries[name] = _Entry(signature)
        elif entry.signature == signature:
            if signature is None and entry.due is not None and wait > self._quiet:
                entry.due = max(entry.due, now + wait)
            return False
        entry.signature = signature
        entry.changed = now
        if entry.due is None:
            entry.since = now
        entry.due = now + wait
        return True

    def due(self, now: float) -> list[str]:
        """Name the projects whose quiet period is over, in order."""
        return sorted(
            name
            for name, entry in self._entries.items()
            if entry.due is not None and entry.due <= now
        )

    def is_gone(self, name: str) -> bool:
        """Tell whether the project was not there when last looked for."""
        return self._entries[name].signature is None

    def drop(self, name: str, now: float) -> None:
        """Forget a project that stayed away."""
        entry = self._entries.pop(name)
        if entry.good is not None or entry.problems:
            self._change(now)

    def digest(self, name: str) -> bytes:
        """Return the digest of what was last read; empty if nothing was."""
        return self._entries[name].digest

    def take(self, name: str, reading: Reading | None, now: float) -> None:
        """Enter a reading; None if the project went away meanwhile."""
        entry = self._entries[name]
        signature = None if reading is None else reading.signature
        if reading is None or not reading.steady or signature != entry.signature:
            # Still being written: start the quiet period anew, whatever was read.
            entry.signature = signature
            entry.changed = now
            entry.due = now + self._quiet
            return
        entry.due = None
        entry.digest = reading.digest
        if reading.verdict is None:
            return
        verdict = reading.verdict
        entry.withheld = None
        if verdict.project is not None:
            entry.good = verdict.project
        elif verdict.hasty:
            entry.withheld = verdict.problems
            return
        entry.problems = verdict.problems
        self._change(now)

    def ripen(self, now: float) -> None:
        """Report what is still incomplete after its grace."""
        for entry in self._entries.values():
            if (
                entry.withheld is not None
                and entry.due is None
                and entry.changed + self._grace <= now
            ):
                entry.problems, entry.withheld = entry.withheld, None
                self._change(now)

    def is_held(self) -> bool:
        """Tell whether to wait with publishing, for others of the same burst.

        Waited for are projects that will be ready within one quiet period and began to change
        about when ours did. So a burst is one publish, and a project that has been written to
        for long delays nobody.
        """
        if self.changed_at is None:
            return False
        ready = self.changed_at
        return any(
            entry.due is not None
            and entry.due <= ready + self._quiet
            and entry.since >= ready - 2 * self._quiet
            for entry in self._entries.values()
        )

    def deadline(self) -> float:
        """Return when `due` or `ripen` has something to do next; infinity if never."""
        return min(
            (
                entry.due if entry.due is not None else entry.changed + self._grace
                for entry in self._entries.values()
                if entry.due is not None or entry.withheld is not None
            ),
            default=math.inf,
        )

    def snapshot(self) -> Snapshot:
        """Return the good projects by name, and all problems, in the order of the names."""
        self.changed_at = None
        entries = sorted(self._entries.items())
        projects = {name: entry.good for name, entry in entries if entry.good is not None}
        return projects, tuple(problem for _, entry in entries for problem in entry.problems)

    def _change(self, now: float) -> None:
        if self.changed_at is None:
            self.changed_at = now
