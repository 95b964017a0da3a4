"""Rules of the tables about what a gateway tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.rules.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

_CHOICES = {
    "format": ("auto", "text", "json"),
    "level": ("debug", "info", "warning", "error"),
    "access": ("own", "reference", "off"),
}


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of these."""
    for key, choices in _CHOICES.items():
        yield from _choice(("log", key), getattr(settings.log, key), choices)


def _choice(path: tuple[str, str], value: str, choices: tuple[str, ...]) -> Iterator[Fault]:
    if value not in choices:
        words = ", ".join(f'"{choice}"' for choice in choices)
        yield Fault(path, f"{'.'.join(path)}: {value!r} is not known", f"use one of {words}")
