"""Escapes text from outside before it is shown: it cannot hide, reorder or end a line.

Escaped are control characters (Unicode category Cc), format characters such as U+202E, which shows
text backwards (Cf), surrogates (Cs), line and paragraph separators (Zl, Zp) and noncharacters.
This includes the joiners of some scripts and of emoji: a name with one is shown with an escape.
"""

from __future__ import annotations

import re
from unicodedata import category

_ESCAPED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_SUSPECT = re.compile(r"[^\x20-\x7e]")
_IN_JSON = re.compile(r"[^\x00-\x7e]")


def escape(text: str) -> str:
    """Make a text safe for one line of a log or terminal. Tabs stay."""
    if text.isascii() and text.isprintable():
        return text  # the usual case, and ten times faster to check
    return _SUSPECT.sub(_shown, text)


def escape_json(encoded: bytes) -> bytes:
    """Write these characters of a JSON document (UTF-8) as JSON escapes. The value is the same."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    text = encoded.decode("utf-8", "surrogatepass")
    return _IN_JSON.sub(_quoted, text).encode()


def _is_shown(letter: str) -> bool:
    code = ord(letter)
    nothing = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # noncharacters
    return not nothing and category(letter) not in _ESCAPED


def _shown(match: re.Match[str]) -> str:
    letter = match[0]
    if letter == "\t" or _is_shown(letter):
        return letter
    code = ord(letter)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _quoted(match: re.Match[str]) -> str:
    letter = match[0]
    if _is_shown(letter):
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
