"""The state of every project in a folder, and when each is due. No I/O, no clock.

`feed.tracker` enters the results of scans (`observe`) and of reads (`record`), asks which projects
have been quiet long enough to be read (`due`), and publishes `snapshot`. All times are seconds of
one monotonic clock.

The life of a project. A change of its signature starts its *quiet period*. Every further change
restarts the period, for this project only. When it ends, the project is read. A good version
replaces the last good version. A broken version leaves the last good version in place and reports
its problems. It reports them at once if it is complete, but `grace` seconds after the last change
if it may be incomplete. A project that disappears also waits for its quiet period, because
replacing a folder removes it first.
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


class LoadResult(NamedTuple):
    """A loaded project, or only problems. `maybe_incomplete`: the files may still be copied."""

    project: ApiProject | None
    problems: tuple[Problem, ...]
    maybe_incomplete: bool


class ProjectReading(NamedTuple):
    """One reading of a project; `result` is None if the digest is already known."""

    signature: Signature
    steady: bool
    digest: bytes
    result: LoadResult | None


class _ProjectState:
    """One project. `signature` is None if it is gone, `due` is None if it need not be read."""

    __slots__ = ("changed", "deferred", "digest", "due", "good", "problems", "signature", "since")

    def __init__(self, signature: Signature | None) -> None:
        self.signature = signature
        self.digest = b""
        self.good: ApiProject | None = None
        self.problems: tuple[Problem, ...] = ()
        self.deferred: tuple[Problem, ...] | None = None  # problems held back during the grace
        self.changed = -math.inf
        self.since = -math.inf  # first change of the current series of changes
        self.due: float | None = None


class ProjectStates:
    """The projects of one folder. `quiet` and `grace` are in seconds."""

    def __init__(self, *, quiet: float, grace: float) -> None:
        self._quiet = quiet
        self._grace = grace
        self._projects: dict[str, _ProjectState] = {}
        self.changed_at: float | None = None  # when the unpublished snapshot changed first

    def __contains__(self, name: str) -> bool:
        return name in self._projects

    def __iter__(self) -> Iterator[str]:
        return iter(self._projects)

    def observe(self, name: str, signature: Signature | None, now: float, *, wait: float) -> bool:
        """Enter the signature from a scan, None if the project is gone. Return if it changed.

        `wait` is how long the signature must not change: the quiet period, or longer.
        """
        project = self._projects.get(name)
        if project is None:
            if signature is None:
                return False
            project = self._projects[name] = _ProjectState(signature)
        elif project.signature == signature:
            if signature is None and project.due is not None and wait > self._quiet:
                project.due = max(project.due, now + wait)
            return False
        project.signature = signature
        project.changed = now
        if project.due is None:
            project.since = now
        project.due = now + wait
        return True

    def due(self, now: float) -> list[str]:
        """List the projects that have been quiet long enough, in order of their names."""
        return sorted(
            name
            for name, project in self._projects.items()
            if project.due is not None and project.due <= now
        )

    def is_gone(self, name: str) -> bool:
        """Return whether the last scan did not find the project."""
        return self._projects[name].signature is None

    def drop(self, name: str, now: float) -> None:
        """Forget a project that is still gone after its quiet period."""
        project = self._projects.pop(name)
        if project.good is not None or project.problems:
            self._change(now)

    def digest(self, name: str) -> bytes:
        """Return the digest of the last reading; empty if there was none."""
        return self._projects[name].digest

    def record(self, name: str, reading: ProjectReading | None, now: float) -> None:
        """Enter a reading, None if the project disappeared before it was read."""
        project = self._projects[name]
        signature = None if reading is None else reading.signature
        if reading is None or not reading.steady or signature != project.signature:
            # Still being written: restart the quiet period and ignore the content.
            project.signature = signature
            project.changed = now
            project.due = now + self._quiet
            return
        project.due = None
        project.digest = reading.digest
        if reading.result is None:
            return
        result = reading.result
        project.deferred = None
        if result.project is not None:
            project.good = result.project
        elif result.maybe_incomplete:
            project.deferred = result.problems
            return
        project.problems = result.problems
        self._change(now)

    def expire_grace(self, now: float) -> None:
        """Report the problems of projects that are still incomplete after their grace period."""
        for project in self._projects.values():
            if (
                project.deferred is not None
                and project.due is None
                and project.changed + self._grace <= now
            ):
                project.problems, project.deferred = project.deferred, None
                self._change(now)

    def should_wait(self) -> bool:
        """Return whether to delay publishing until other changes of the same series are read.

        This is the case for projects that will be read within one quiet period and began to change
        at about the same time. So a series of changes is published once, and a project that
        changes for a long time does not delay the others.
        """
        if self.changed_at is None:
            return False
        ready = self.changed_at
        return any(
            project.due is not None
            and project.due <= ready + self._quiet
            and project.since >= ready - 2 * self._quiet
            for project in self._projects.values()
        )

    def deadline(self) -> float:
        """Return when `due` or `expire_grace` has the next work to do; infinity if never."""
        return min(
            (
                project.due if project.due is not None else project.changed + self._grace
                for project in self._projects.values()
                if project.due is not None or project.deferred is not None
            ),
            default=math.inf,
        )

    def snapshot(self) -> Snapshot:
        """Return the good projects by name, and all problems, in the order of the names."""
        self.changed_at = None
        states = sorted(self._projects.items())
        projects = {name: state.good for name, state in states if state.good is not None}
        return projects, tuple(problem for _, state in states for problem in state.problems)

    def _change(self, now: float) -> None:
        if self.changed_at is None:
            self.changed_at = now
