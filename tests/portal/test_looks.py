"""Every page for every reader: at two widths, in two themes, without violations of axe-core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.portal import THEMES, WIDTHS, portal

if TYPE_CHECKING:
    from pathlib import Path

    from support.portal import Seen


async def test_pages_are_accessible_and_fit(tmp_path: Path) -> None:
    def look(seen: Seen) -> None:
        seen.open("/")
        seen.check("catalogue")
        seen.page.get_by_role("link", name="Echo:1.0.0").click()
        seen.page.get_by_role("heading", name="Echo").wait_for()
        seen.check("overview")

    async with portal(tmp_path) as running:
        for width in WIDTHS:
            for theme in THEMES:
                await running.visit(look, user="ada", width=width, theme=theme)
