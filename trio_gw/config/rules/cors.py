"""Rules of `[cors]`: which origins are let in, and what browsers are told about others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.cors import faults
from trio_gw.config.rules.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of `[cors]`."""
    for fault in faults(settings.cors):
        path = ("cors", fault.field, fault.index)
        yield Fault(path, f"cors.{fault.field}: {fault.what}", fault.hint)
    if settings.cors.allow_credentials and "*" in settings.cors.allow_origins:
        yield Fault(
            ("cors", "allow_credentials"),
            'cors.allow_credentials with cors.allow_origins = ["*"] lets every web page act'
            " for its visitors",
            "name the origins that may",
        )
