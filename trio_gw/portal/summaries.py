"""Titles, summaries and descriptions in the text of a definition, for searches. Pure.

Lines are looked at, the document is not read: two thousand definitions take a moment this way, not
a minute. What is found need not be exact; it only decides which APIs a search shows.
"""

from __future__ import annotations

import re

MOST_TEXTS = 200  # of one definition
LONGEST = 300  # characters of one
MOST_BYTES = 1 << 20  # of a definition; the rest is not searched

_KEY = r"""["']?(?:summary|description|title)["']?[ \t]*:[ \t]*"""
_QUOTED = r"""("(?:[^"\\\n]|\\.)*"|'[^'\n]*'"""
# At the beginning of a line, where the value has the rest of it, or within braces.
_LINE = re.compile(
    rf"(?:^[ \t]*(?:-[ ]+)?{_KEY}{_QUOTED}|[^\n]*)|[{{,][ \t]*{_KEY}{_QUOTED}|[^\n,}}]*))",
    re.MULTILINE,
)
_BLOCK = re.compile(r"[|>][-+0-9]*\s*(?:#.*)?")


def summaries(data: bytes) -> tuple[str, ...]:
    """Return the texts of a definition in YAML or JSON, in their order, each once."""
    text = data[:MOST_BYTES].decode(errors="replace")
    found: dict[str, None] = {}
    for match in _LINE.finditer(text):
        value = (match[1] or match[2] or "").strip()
        if not value or _BLOCK.fullmatch(value):
            value = _block(text, match.end())
        value = value.rstrip(",").strip("\"'").strip()[:LONGEST]
        if value:
            found[value] = None
            if len(found) == MOST_TEXTS:
                break
    return tuple(found)


def _block(text: str, at: int) -> str:
    """Return the beginning of an indented block that begins in the next line."""
    following = text[at + 1 : at + 1 + 2 * LONGEST].split("\n")
    if not following or following[0][:1] not in (" ", "\t"):
        return ""
    indent = len(following[0]) - len(following[0].lstrip())
    lines: list[str] = []
    for line in following:
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            break
        lines.append(line.strip())
    return " ".join(lines).strip()
