"""The differences between two sets of files, as unified diffs of bounded cost. Pure."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_LINES = 3000  # lines that are compared, without the equal ones at both ends
MOST_SHOWN = 2000  # lines of one diff
CONTEXT = 3
_BREAK = re.compile(r"\r\n|\n|\r")


class DraftFileDiff(msgspec.Struct, frozen=True):
    """One file that differs. `lines` begin with `+`, `-`, `@` or a space."""

    path: str
    kind: str  # "added", "removed", "changed"
    added: int
    removed: int
    lines: tuple[str, ...]
    cut: bool = False


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[DraftFileDiff]:
    """List the files that differ, by path."""
    return [
        _difference(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _difference(path: str, before: str | None, after: str | None) -> DraftFileDiff:
    old, new = _lines(before), _lines(after)
    kind = "added" if before is None else "removed" if after is None else "changed"
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    if max(len(old), len(new)) - head - tail > MOST_LINES:
        return DraftFileDiff(
            path, kind, len(new) - head - tail, len(old) - head - tail, (), cut=True
        )
    start = max(head - CONTEXT, 0)
    end = max(tail - CONTEXT, 0)
    made = list(
        difflib.unified_diff(
            old[start : len(old) - end], new[start : len(new) - end], n=CONTEXT, lineterm=""
        )
    )[2:]
    lines = [_moved(line, start) if line.startswith("@@") else line for line in made]
    added = sum(line.startswith("+") for line in lines)
    removed = sum(line.startswith("-") for line in lines)
    cut = len(lines) > MOST_SHOWN
    return DraftFileDiff(path, kind, added, removed, tuple(lines[:MOST_SHOWN]), cut)


def _lines(text: str | None) -> list[str]:
    if not text:
        return []
    lines = _BREAK.split(text)
    return lines if lines[-1] else lines[:-1]


def _moved(line: str, by: int) -> str:
    """Count the lines of a heading `@@ -1,3 +1,4 @@` from the beginning of the file."""
    return re.sub(r"([-+])(\d+)", lambda found: f"{found[1]}{int(found[2]) + by}", line, count=2)
