"""Finds the line of each key in a TOML text.

tomllib keeps no positions. `settings_file` uses the lines for messages only: if a line is not
found, the message is shorter, and no value is wrong.
"""

from __future__ import annotations

import re

_NAME = r"(?:\"[^\"]*\"|'[^']*'|[A-Za-z0-9_-]+)"
_NAMES = rf"({_NAME}(?:\s*\.\s*{_NAME})*)"
_HEADER = re.compile(rf"\s*(\[\[?)\s*{_NAMES}\s*\]")
_KEY = re.compile(rf"\s*{_NAMES}\s*=")
_LONG_QUOTE = re.compile(r"\"\"\"|'''")


def key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Map the path of every table and key to its line, counted from 1.

    Entries of an array of tables have their index in the path. Keys of inline tables are not
    found. The text must be valid TOML.
    """
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    quoted = False
    for number, line in enumerate(text.split("\n"), start=1):
        inside = quoted
        if len(_LONG_QUOTE.findall(line)) % 2:
            quoted = not quoted
        if inside:
            continue
        if header := _HEADER.match(line):
            table = _table(header[2], counts, entry=header[1] == "[[")
            if header[1] == "[[":
                lines.setdefault(table[:-1], number)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            path = table
            for name in _split(key[1]):
                path = (*path, name)
                lines.setdefault(path, number)
    return lines


def _split(names: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_NAME, names)]


def _table(
    names: str, counts: dict[tuple[str | int, ...], int], *, entry: bool
) -> tuple[str | int, ...]:
    """Return the path of a header, with the index of each array of tables in it."""
    parts = _split(names)
    path: tuple[str | int, ...] = ()
    for position, name in enumerate(parts, start=1):
        path = (*path, name)
        if entry and position == len(parts):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path
