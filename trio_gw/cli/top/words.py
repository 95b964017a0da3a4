"""Words and numbers as the screen has them: harmless, short, and of a known width. Pure."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, set_cell_size

from trio_gw.escaping import escape

# Controls, what changes direction or joins unseen, private use, halves of characters, lines.
_HIDDEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def plain(text: str) -> str:
    """Make a text harmless on a terminal: what is not seen is written out."""
    if text.isascii() and text.isprintable():
        return text
    text = escape(text.replace("\t", " "))
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _HIDDEN else char for char in text
    )


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Cut or fill a text so that it takes exactly so many cells."""
    if width <= 0:
        return ""
    taken = cell_len(text)
    if taken > width:
        text = set_cell_size(text, width - 1) + "…"
        taken = cell_len(text)
    fill = " " * (width - taken)
    return fill + text if right else text + fill


def rate(number: float) -> str:
    """Write how often something happens in a second."""
    if number >= 1e6:
        return f"{number / 1e6:.1f}M"
    return f"{number:,.0f}" if number >= 9.95 or number == 0 else f"{number:.1f}"


def count(number: int) -> str:
    """Write how many there are."""
    return f"{number / 1e6:,.1f}M" if number >= 1e6 else f"{number:,}"


def size(octets: float) -> str:
    """Write a number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 999.5:
            return (
                f"{octets:.0f} {unit}" if octets >= 9.95 or unit == "B" else f"{octets:.1f} {unit}"
            )
        octets /= 1000
    return f"{octets:,.0f} TB"


def span(seconds: float) -> str:
    """Write how long something has lasted."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
