"""Compares two revisions of a project, file by file. Pure; may take a while, so not in the loop.

Passwords of endpoints are hidden before the comparison, so a diff never shows one.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_BYTES = 512 << 10  # of a file; larger ones are not compared line by line
MOST_LINES = 4000  # of all files of a diff
MASK = "••••••"
CONTEXT = 3

_SECRET = re.compile(
    r"(?i)(['\"]?\b(?:password|client_?secret|secret)['\"]?[ \t]*:[ \t]*)(?=\S)(.*)$"
)


class FileDiff(NamedTuple):
    """How one file differs. `lines` are those of a unified diff, without its heading.

    `note` says why there are none, or not all.
    """

    path: str
    change: Literal["added", "removed", "changed"]
    lines: tuple[str, ...] = ()
    note: str = ""


def masked(text: str) -> str:
    """Hide the passwords in a file of a project: what follows the key, to the end of the line.

    The lines of a block scalar are hidden, too. More may be hidden than needed, but not less.
    """
    found: list[str] = []
    hidden_above: int | None = None  # the indentation of a key whose value is a block
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if hidden_above is not None and (not line.strip() or indent > hidden_above):
            found.append(f"{line[:indent]}{MASK}" if line.strip() else line)
            continue
        hidden_above = None
        if (secret := _SECRET.search(line)) is not None:
            hidden_above = indent if secret[2].startswith(("|", ">", "&", "!")) else None
            line = f"{line[: secret.end(1)]}{MASK}"
        found.append(line)
    return "\n".join(found)


def compare(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> list[FileDiff]:
    """List the files that differ, in the order of their paths."""
    found: list[FileDiff] = []
    left = MOST_LINES
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        one = _compared(path, before, after, left)
        left -= len(one.lines)
        found.append(one)
    return found


def _compared(path: str, before: bytes | None, after: bytes | None, most: int) -> FileDiff:
    change: Literal["added", "removed", "changed"] = "changed"
    if before is None or after is None:
        change = "added" if before is None else "removed"
    texts = _text(before or b""), _text(after or b"")
    if texts[0] is None or texts[1] is None:
        return FileDiff(path, change, note="not a text, or too large to compare")
    lines: list[str] = []
    for line in _unified(texts[0], texts[1]):
        if len(lines) >= most:
            return FileDiff(path, change, tuple(lines), "more lines differ")
        lines.append(line)
    note = "" if lines else "only hidden values or the ends of lines differ"
    return FileDiff(path, change, tuple(lines), note)


def _unified(before: str, after: str) -> Iterator[str]:
    compared = difflib.unified_diff(
        masked(before).splitlines(), masked(after).splitlines(), lineterm="", n=CONTEXT
    )
    for number, line in enumerate(compared):
        if number >= 2:  # after the names of the files
            yield line


def _text(data: bytes) -> str | None:
    if len(data) > MOST_BYTES or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
