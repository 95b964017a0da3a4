"""The problems found in one document, each with the place of its value.

`convert`, `apiyaml` and `asyncapi` add to it while they read; `project` collects the result.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from trio_gw.config.faults import printable
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from trio_gw.config.document import Document
    from trio_gw.config.faults import WrongError
    from trio_gw.config.nodes import Path

# Maximum of errors, and of warnings: a hostile file could have thousands.
MAX_FINDINGS = 100


class Findings:
    """Collects problems. A second problem with the same words at the same place is dropped."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems: dict[Problem, None] = {}
        self._spoilt: set[Path] = set()
        self._above: set[Path] = set()
        self._counts: Counter[str] = Counter()  # by severity
        self._left_off: Counter[str] = Counter()

    def error(self, path: Path, what: str, hint: str) -> None:
        """Add a fault that makes the project unusable."""
        self._spoilt.add(path)
        self._above.update(path[:end] for end in range(len(path)))
        self._note(path, what, hint, "error")

    def wrong(self, path: Path, subject: str, error: WrongError) -> None:
        """Add a fault that was raised by code that does not know the place."""
        self.error(path, f"{subject}: {error.what}", error.hint)

    def warn(self, path: Path, what: str, hint: str) -> None:
        """Add a fault with which the project can still be used."""
        self._note(path, what, hint, "warning")

    def spoilt(self, path: Path) -> bool:
        """Return whether an error is known at, below or above this path.

        Call this before reporting a missing value: it may be present and wrong.
        """
        return path in self._above or any(
            path[:end] in self._spoilt for end in range(len(path) + 1)
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems in the order of the file."""
        found = sorted(self._problems, key=lambda problem: (problem.line, problem.column))
        file, hint = self.document.file, "fix those above first"
        if more := self._left_off["error"]:
            what = f"{more} more problems are not shown"
            found.append(Problem(file, 0, 0, what, hint))
        if more := self._left_off["warning"]:
            what = f"{more} more warnings are not shown"
            found.append(Problem(file, 0, 0, what, hint, "warning"))
        return tuple(found)

    def _note(
        self,
        path: Path,
        what: str,
        hint: str,
        severity: Literal["error", "warning"],
    ) -> None:
        if self._counts[severity] == MAX_FINDINGS:
            self._left_off[severity] += 1
            return
        place = self.document.place(path)
        what, hint = printable(what), printable(hint)
        problem = Problem(self.document.file, *place, what, hint, severity)
        self._counts[severity] += problem not in self._problems
        self._problems[problem] = None
