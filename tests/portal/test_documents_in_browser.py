"""Topics and the document in a real browser: looks, colours, finding, and nothing that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.described import CHAT
from support.hostile import hostile, write
from support.portal import THEMES, WIDTHS, portal

if TYPE_CHECKING:
    from pathlib import Path

    from support.portal import Portal, Seen


LONG = "N" * 50


def identify(running: Portal, name: str) -> str:
    apis = running.gateway.running.live.table.apis.values()
    return next(one.project.id for one in apis if one.project.name == name)


async def test_topics_and_the_document(tmp_path: Path) -> None:
    write(tmp_path / "apis", "Chat", CHAT)
    write(tmp_path / "apis", "Evil", hostile())
    write(tmp_path / "apis", LONG, CHAT.replace("/open/*", f"/{'o' * 80}/{{{'p' * 80}}}"))
    async with portal(tmp_path, echo=False) as running:
        chat, evil, long = (identify(running, name) for name in ("Chat", "Evil", LONG))

        def look(seen: Seen) -> None:
            for name, path in (
                ("topics", f"/apis/{chat}/topics"),
                ("topic", f"/apis/{chat}/topics/0"),
                ("document", f"/apis/{chat}/document"),
            ):
                seen.open(path)
                seen.check(name)
                sizes = seen.transferred()
                assert sizes["html"] < 30 << 10, sizes

        for width, theme in zip(WIDTHS, THEMES, strict=True):
            await running.visit(look, user="pub", width=width, theme=theme)

        def use(seen: Seen) -> None:
            seen.open(f"/apis/{chat}/document#L13")
            page = seen.page
            page.wait_for_function("CSS.highlights.get('source-key')?.size > 20")
            kinds: Any = page.evaluate("[...CSS.highlights.keys()]")
            assert {"source-key", "source-text", "source-number"} <= set(kinds)
            assert page.locator("#source code *").count() == 0
            assert page.locator(":target").get_attribute("id") == "L13"
            page.get_by_label("Find in the file").fill("SCOPES")
            page.wait_for_function("document.querySelector('[data-find] output').textContent")
            assert page.locator("[data-find] output").text_content() == "1 of 3"
            page.keyboard.press("Enter")
            assert page.locator("[data-find] output").text_content() == "2 of 3"
            page.keyboard.press("Shift+Enter")
            page.keyboard.press("Shift+Enter")
            assert page.locator("[data-find] output").text_content() == "3 of 3"
            page.get_by_label("Wrap").uncheck()
            page.reload()
            assert not page.get_by_label("Wrap").is_checked()
            with page.expect_download() as expected:
                page.get_by_role("link", name="as JSON", exact=True).click()
            assert expected.value.suggested_filename == "asyncapi.json"
            seen.open(f"/apis/{chat}/topics")
            page.get_by_role("link", name="/rooms/{room}", exact=True).click()
            page.get_by_role("link", name="Said, see above").first.click()
            assert page.locator(":target summary").first.is_visible()
            assert seen.faults == []

        await running.visit(use, user="con")

        def attack(seen: Seen) -> None:
            seen.open(f"/apis/{long}/topics")
            assert seen.overflow() <= 0
            seen.open(f"/apis/{long}/topics/1")
            assert seen.overflow() <= 0
            seen.page.on("dialog", lambda dialog: seen.faults.append(dialog.message))
            for path in ("topics", "topics/0", "document"):
                seen.open(f"/apis/{evil}/{path}")
                if path == "topics/0":
                    seen.check("hostile-topic")
                assert seen.overflow() <= 0, path
                count = seen.page.evaluate(
                    'document.querySelectorAll(\'main :is(script:not([src^="/portal/static/"]),'
                    " img, svg, iframe, form)').length"
                )
                assert count == 0, path
            assert seen.faults == []

        await running.visit(attack, user="pub", width=360)

        def without_scripts(seen: Seen) -> None:
            seen.open(f"/apis/{chat}/topics/0")
            assert seen.page.get_by_text("Say something").first.is_visible()
            seen.open(f"/apis/{chat}/document#L3")
            assert seen.page.locator("#L3").is_visible()

        await running.visit(without_scripts, user="con", java_script_enabled=False)
