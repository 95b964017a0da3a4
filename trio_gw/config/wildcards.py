"""Patterns in which `*` stands for any text: of origins in the settings, of pages in API keys.

Called by `guard.apikeys` and `proxy.cors_policy`. Uses `str.find` instead of a regular
expression, which would try every combination of places: the texts come from clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Wildcards:
    """Many patterns, indexed by their ends, so that not all are tried."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._plain: set[str] = set()
        # By the texts before the first star and after the last one; and the lengths of these.
        self._ends: dict[tuple[str, str], list[str]] = {}
        self._lengths: dict[int, dict[str, set[int]]] = {}
        for pattern in dict.fromkeys(patterns):
            first, star, rest = pattern.partition("*")
            if not star:
                self._plain.add(pattern)
                continue
            last = rest.rpartition("*")[2]
            self._ends.setdefault((first, last), []).append(pattern)
            self._lengths.setdefault(len(first), {}).setdefault(first, set()).add(len(last))

    def fit(self, text: str) -> bool:
        """Return whether one of the patterns matches the whole text."""
        if text in self._plain:
            return True
        for length, firsts in self._lengths.items():
            first = text[:length]
            for size in firsts.get(first, ()):
                last = text[len(text) - size :] if size <= len(text) else ""
                if any(fits(pattern, text) for pattern in self._ends.get((first, last), ())):
                    return True
        return False


def fits(pattern: str, text: str) -> bool:
    """Return whether a pattern matches the whole text. Each literal part is searched once."""
    first, *parts = pattern.split("*")
    if not parts:
        return text == first
    last = parts.pop()
    if not text.startswith(first) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in parts:
        # The first match leaves the most for the rest, so no backtracking is needed.
        if (found := text.find(part, at, end)) < 0:
            return False
        at = found + len(part)
    return text.endswith(last)
