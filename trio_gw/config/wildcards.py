"""Patterns in which `*` stands for any text: of origins in the settings, of pages in API keys.

Called by `guard.apikeys` and `proxy.cors`. Made of finds instead of an expression, which would
try every place of one star with every place of the next: the texts come from clients.
"""

from __future__ import annotations


def fits(pattern: str, text: str) -> bool:
    """Tell whether a pattern matches the whole text. Each literal part is looked for once."""
    first, *parts = pattern.split("*")
    if not parts:
        return text == first
    last = parts.pop()
    if not text.startswith(first) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in parts:
        # The earliest place leaves most for the rest, so it never has to be taken back.
        if (found := text.find(part, at, end)) < 0:
            return False
        at = found + len(part)
    return text.endswith(last)
