"""The page of keys in a browser: get a test key, explain a refusal; and the plain listener."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from support.portal import portal
from support.portal_client import PASSWORDS
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from support.portal import Seen


async def test_a_key_and_an_explanation(tmp_path: Path) -> None:
    async with portal(tmp_path) as running:
        (api,) = running.gateway.running.live.table.apis.values()
        address = f"/apis/{api.project.id}/keys"

        def keys(seen: Seen) -> None:
            page = seen.page
            seen.open(address)
            seen.check("keys")
            page.get_by_label("echo:admin").check()
            page.get_by_role("button", name="Get a test key").click()
            page.get_by_label("The key").wait_for()
            token = secret(page.get_by_label("The key").input_value())
            assert page.get_by_label("Token").input_value() == token
            assert re.search(r"ends in 1[45] min", page.get_by_text("This key").inner_text())
            page.get_by_label("Path").fill("/echo/1.0.0/admin")
            page.get_by_role("button", name="Explain", exact=True).click()
            page.get_by_text("The gateway would let this in.").wait_for()
            seen.check("keys-explained")
            page.get_by_label("Token").fill(token[:-6])
            page.get_by_role("button", name="Explain", exact=True).click()
            page.get_by_text("The gateway refuses this with 401.").wait_for()
            assert page.locator("li.error strong").inner_text() in ("signature", "token")
            assert page.evaluate("JSON.stringify(localStorage)").count(token[:20]) == 0

        await running.visit(keys, user="con", width=360, theme="dark")

        def without_scripts(seen: Seen) -> None:
            seen.open("/explain?path=/echo/1.0.0/plain")
            seen.page.get_by_role("button", name="Explain", exact=True).click()
            seen.page.get_by_text("The gateway refuses this with 401.").wait_for()
            assert seen.page.get_by_label("Path").input_value() == "/echo/1.0.0/plain"

        await running.visit(without_scripts, user="con", java_script_enabled=False)

        plain = f"http://localhost:{running.gateway.portal_port}"

        def local(page: Page) -> str:
            page.goto(f"{plain}/")
            page.wait_for_url(f"{plain}/portal/login?next=/portal/")
            page.get_by_label("User").fill("con")
            page.get_by_label("Password").fill(PASSWORDS["con"])
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{plain}/portal/")
            (cookie,) = page.context.cookies()
            secret(cookie["value"])
            assert (cookie["name"], cookie["sameSite"], cookie["httpOnly"]) == (
                *(f"trio-gw-{running.gateway.portal_port}", "Strict", True),
            )
            # A link on a page of another site leads to the page, although it carries no cookie.
            page.route(
                "http://other.example/",
                lambda route: route.fulfill(
                    content_type="text/html", body=f"<a href='{plain}/portal/'>there</a>"
                ),
            )
            page.goto("http://other.example/")
            page.get_by_text("there").click()
            page.wait_for_url(f"{plain}/portal/")
            page.get_by_role("heading", name="APIs").wait_for()
            # Another origin of the same site can frame nothing, and reads nothing.
            page.route(
                "http://localhost:1/",
                lambda route: route.fulfill(
                    content_type="text/html", body=f"<iframe src='{plain}/portal/'></iframe>"
                ),
            )
            page.goto("http://localhost:1/")
            told: str = page.evaluate(
                f"fetch('{plain}/portal/api/session', {{credentials: 'include'}})"
                ".then(() => 'read', error => error.name)"
            )
            with contextlib.suppress(IndexError):
                assert "APIs" not in page.frames[1].content()
            return told

        assert await running.browser.visit(local) == "TypeError"
