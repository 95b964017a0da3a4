"""Rules of the tables about what a gateway tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.rules.faults import Fault
from trio_gw.config.settings import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

MAX_SERIES = 10_000
_CHOICES = {
    "format": ("auto", "text", "json"),
    "level": ("debug", "info", "warning", "error"),
    "access": ("own", "reference", "off"),
}


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of these."""
    for key, choices in _CHOICES.items():
        yield from _choice(("log", key), getattr(settings.log, key), choices)
    yield from _metrics(settings)


def _metrics(settings: Settings) -> Iterator[Fault]:
    table = settings.metrics
    if not 1 <= table.series <= MAX_SERIES:
        yield Fault(("metrics", "series"), f"metrics.series must be 1 to {MAX_SERIES}")
    if not table.listen:
        return
    path = ("metrics", "listen")
    try:
        parse_address(table.listen)
    except ValueError as error:
        mend = 'write host:port, like "localhost:9091" or ":9091" for every interface'
        yield Fault(path, f"metrics.listen: {table.listen!r} is not an address: {error}", mend)
    if not table.enabled:
        what = "metrics.listen is given, but metrics.enabled is false"
        yield Fault(path, what, "leave one of them out")


def _choice(path: tuple[str, str], value: str, choices: tuple[str, ...]) -> Iterator[Fault]:
    if value not in choices:
        words = ", ".join(f'"{choice}"' for choice in choices)
        yield Fault(path, f"{'.'.join(path)}: {value!r} is not known", f"use one of {words}")
