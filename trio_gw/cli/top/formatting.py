"""Formats texts and numbers for the screen: safe, short, and of a known width. Pure."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, set_cell_size

from trio_gw.escaping import escape

# Controls, invisible and direction characters, private use, surrogates, line separators.
_HIDDEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def plain(text: str) -> str:
    """Make a text safe for a terminal: invisible characters are escaped."""
    if text.isascii() and text.isprintable():
        return text
    text = escape(text.replace("\t", " "))
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _HIDDEN else char for char in text
    )


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Cut or pad a text to exactly so many cells."""
    if width <= 0:
        return ""
    taken = cell_len(text)
    if taken > width:
        text = set_cell_size(text, width - 1) + "…"
        taken = cell_len(text)
    fill = " " * (width - taken)
    return fill + text if right else text + fill


def rate(number: float) -> str:
    """Format a rate per second."""
    if number >= 1e6:
        return f"{number / 1e6:.1f}M"
    return f"{number:,.0f}" if number >= 9.95 or number == 0 else f"{number:.1f}"


def count(number: int) -> str:
    """Format a count."""
    return f"{number / 1e6:,.1f}M" if number >= 1e6 else f"{number:,}"


def size(octets: float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 999.5:
            return (
                f"{octets:.0f} {unit}" if octets >= 9.95 or unit == "B" else f"{octets:.1f} {unit}"
            )
        octets /= 1000
    return f"{octets:,.0f} TB"


def span(seconds: float) -> str:
    """Format a duration."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
