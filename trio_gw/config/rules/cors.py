"""Rules of `[cors]`: what browsers are told about other origins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.config.rules.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ORIGIN = re.compile(r"\*|null|[A-Za-z*][A-Za-z0-9+.*-]*://[A-Za-z0-9.*_\[\]:-]+")


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of `[cors]`."""
    for name in ("allow_methods", "allow_headers", "expose_headers"):
        for index, text in enumerate(getattr(settings.cors, name)):
            if not _TOKEN.fullmatch(text):
                yield Fault(
                    ("cors", name, index),
                    f"cors.{name}: {text!r} is not a name as HTTP has them",
                    "letters, digits and - only",
                )
    for index, origin in enumerate(settings.cors.allow_origins):
        if not _ORIGIN.fullmatch(origin):
            yield Fault(
                ("cors", "allow_origins", index),
                f"cors.allow_origins: {origin!r} is not an origin",
                'write scheme and host, like "https://app.example", with * where any text may'
                ' stand, or "null"',
            )
    if settings.cors.allow_credentials and "*" in settings.cors.allow_origins:
        yield Fault(
            ("cors", "allow_credentials"),
            'cors.allow_credentials with cors.allow_origins = ["*"] lets every web page act'
            " for its visitors",
            "name the origins that may",
        )
