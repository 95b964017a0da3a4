"""One page of the portal on a phone in the dark and on a wide screen, without opening it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from support.portal import Seen

WINDOWS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((360, "dark"), (1440, "light"))


def look_around(seen: Seen, name: str) -> None:
    """Check a page as it is. Refusals that it asked for are no faults of its scripts."""
    seen.faults[:] = [one for one in seen.faults if "status of 4" not in one]
    for width, theme in WINDOWS:
        seen.page.set_viewport_size({"width": width, "height": 900})
        seen.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        seen.label = f"{width}-{theme}"
        seen.check(name)
