"""What is on every page: keyboard, themes, copying, an ended session, a lost gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.portal import portal
from support.portal_client import PASSWORDS

if TYPE_CHECKING:
    from pathlib import Path

    from support.portal import Seen


async def test_what_is_on_every_page(tmp_path: Path) -> None:
    async with portal(tmp_path) as running:
        await running.visit(by_keyboard, user="pub")
        await running.visit(in_other_colours, user="pub", theme="light")
        await running.visit(when_the_session_ends, user="pub")
        await running.visit(when_the_gateway_is_lost, user="pub")


def by_keyboard(seen: Seen) -> None:
    """`?` shows the shortcuts, `/` searches, Escape closes; the first stop skips the header."""
    page = seen.page
    seen.open("/apis/nobody", status=404)
    page.keyboard.press("/")
    page.wait_for_url("**/portal/#search")
    page.locator("#q:focus").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    assert seen.violations() == []
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    seen.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    # The menu of the user, and out of it.
    summary = page.locator("details.menu > summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Log out").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Log out").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def in_other_colours(seen: Seen) -> None:
    """A theme is kept for the next page, and only the theme: nothing else is stored."""
    page = seen.page
    seen.open("/")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("details.menu > summary").click()
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    assert seen.violations() == []
    seen.open("/")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert page.evaluate("JSON.stringify({...localStorage})") == '{"theme":"dark"}'
    page.locator("details.menu > summary").click()
    page.get_by_role("button", name="System").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    seen.open("/apis/" + page.locator("#rows a").first.evaluate("a => a.pathname.split('/').pop()"))
    page.locator(".copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").endswith("/echo/1.0.0")


def when_the_session_ends(seen: Seen) -> None:
    """The password is asked for in a dialog, and what was typed is still there."""
    page = seen.page
    seen.open("/")
    page.context.clear_cookies()
    page.get_by_label("Search").fill("ech")
    dialog = page.get_by_role("dialog", name="Your session is over")
    dialog.wait_for()
    assert seen.violations() == []
    assert dialog.get_by_label("User").input_value() == "pub"
    dialog.get_by_label("Password").fill("wrong")
    dialog.get_by_role("button", name="Log in").click()
    dialog.get_by_text("User name or password is wrong").wait_for()
    dialog.get_by_label("Password").fill(PASSWORDS["pub"])
    dialog.get_by_role("button", name="Log in").click()
    page.get_by_text("1 API", exact=True).wait_for()
    assert page.get_by_label("Search").input_value() == "ech"


def when_the_gateway_is_lost(seen: Seen) -> None:
    """A banner says since when, and goes when the gateway answers again."""
    page = seen.page
    with page.expect_response(lambda answer: "/portal/events" in answer.url):
        seen.open("/")
    page.context.set_offline(True)  # what is open already stays open
    page.get_by_label("Search").fill("ech")
    page.get_by_text("Not connected since").wait_for()
    assert seen.violations() == []
    page.context.set_offline(False)
    page.get_by_text("Not connected since").wait_for(state="hidden")
