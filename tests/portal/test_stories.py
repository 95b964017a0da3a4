"""From an empty gateway to an echoed message, as a publisher does it: by mouse, and by keyboard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from support.backends import start_echo
from support.portal import portal
from trio_gw.proxy import local_echo

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from support.portal import Seen

MOST_SECONDS = 120
PACE = 0.5  # seconds that a person takes for one action
MOST_ACTIONS = 6
MOST_TABS = 90


class Reader:
    """Somebody who uses a page: counts actions, and the time that they take."""

    def __init__(self, seen: Seen) -> None:
        self.page = seen.page
        self.actions = 0
        self.began = time.monotonic()

    def click(self, role: str, name: str) -> None:
        """Click what has this role and name."""
        self.actions += 1
        found = self.page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
        found.first.click()

    def type(self, label: str, text: str) -> None:
        """Write into a field."""
        self.actions += 1
        self.page.get_by_label(label, exact=True).fill(text)

    def tab_to(self, name: str, key: str = "Enter") -> None:
        """Go to what has this text or label with the Tab key, and press a key there."""
        self.actions += 1
        for _ in range(MOST_TABS):
            self.page.keyboard.press("Tab")
            found = self.page.evaluate(
                "(({ariaLabel, textContent}) => (ariaLabel || textContent).trim())"
                "(document.activeElement)"
            )
            if found == name:
                if key:
                    self.page.keyboard.press(key)
                return
        raise AssertionError(f"Tab does not lead to {name}")

    @property
    def seconds(self) -> float:
        """How long a person would have taken."""
        return time.monotonic() - self.began + PACE * self.actions


async def test_from_an_empty_gateway_to_an_echoed_message(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    def by_mouse(seen: Seen) -> None:
        seen.open("/")
        reader = Reader(seen)
        reader.click("button", "Use the built-in echo backend")
        seen.page.wait_for_selector(".will li")
        reader.click("button", "Create and deploy")
        seen.page.get_by_text("Live on localhost, 1 topic,").wait_for()
        reader.click("link", "Try it")
        reader.click("button", "Connect")
        seen.page.locator("[data-state]", has_text="101").wait_for()
        reader.type("Message", "hello by mouse")
        reader.click("button", "Send")
        seen.page.locator(".frame.in", has_text="hello by mouse").wait_for()
        assert reader.actions <= MOST_ACTIONS
        assert reader.seconds < MOST_SECONDS
        assert seen.faults == []

    def by_keyboard(seen: Seen) -> None:
        seen.open("/")
        reader = Reader(seen)
        reader.tab_to("+ New API")
        seen.page.locator("#backend:focus").wait_for()
        reader.tab_to("Use the built-in echo backend")
        seen.page.wait_for_selector(".will li")
        seen.page.locator("#name").focus()
        seen.page.keyboard.press("ControlOrMeta+A")
        seen.page.keyboard.type("Keys")
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.press("ControlOrMeta+A")
        seen.page.keyboard.type("/keys")
        seen.page.locator(".will", has_text="/keys/1.0.0").wait_for()
        reader.tab_to("Create and deploy")
        seen.page.get_by_text("Live on localhost, 1 topic,").wait_for()
        reader.tab_to("Try it")
        seen.page.wait_for_url("**/try*")
        reader.tab_to("Connect")
        seen.page.locator("[data-state]", has_text="101").wait_for()
        reader.tab_to("Message", "")
        seen.page.keyboard.type("hello by keyboard")
        seen.page.keyboard.press("ControlOrMeta+Enter")
        seen.page.locator(".frame.in", has_text="hello by keyboard").wait_for()
        assert reader.seconds < MOST_SECONDS

    backend = await start_echo(nursery)
    local_echo.announce("localhost", int(backend.url.rpartition(":")[2]))
    async with portal(tmp_path, echo=False) as running:
        await running.visit(by_mouse, user="pub")
        await running.visit(by_keyboard, user="pub")
