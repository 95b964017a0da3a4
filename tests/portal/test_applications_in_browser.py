"""The pages of applications in a real browser: subscribe, make a key, fetch a token with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import trio

from support.portal import THEMES, WIDTHS, portal
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    from support.portal import Seen


async def test_from_an_api_to_a_token(tmp_path: Path) -> None:
    async with portal(tmp_path) as running:
        apis = running.gateway.running.live.table.apis.values()
        echo = next(iter(apis)).project
        found: dict[str, str] = {}

        def subscribe(seen: Seen) -> None:
            page = seen.page
            seen.open("/applications")
            seen.check("applications-none")
            seen.open(f"/apis/{echo.id}/subscribe")
            seen.check("subscribe")
            page.get_by_role("button", name="Subscribe").click()
            page.wait_for_url("**/portal/applications/*")
            assert echo.title in page.locator("tbody th").first.inner_text()
            seen.check("application-new")
            page.get_by_role("button", name="Generate production key").click()
            page.get_by_text("Copy it now").wait_for()
            texts = page.locator("#key-shown code").all_inner_texts()
            found["key"], found["secret"], found["curl"] = texts
            secret(found["secret"])
            seen.check("application-secret")
            found["path"] = page.url.partition("/portal")[2]
            seen.open(found["path"])
            assert found["secret"] not in page.content(), "shown once"
            assert page.evaluate("JSON.stringify({...localStorage})").find(found["key"]) < 0
            seen.check("application")

        await running.visit(subscribe, user="con")

        # The command of the page, as a shell runs it.
        run = await trio.run_process(
            ["/bin/sh", "-c", found["curl"].replace("curl ", "curl -s ", 1)],
            capture_stdout=True,
            check=False,
        )
        token = re.search(rb'"access_token":"([^"]+)"', run.stdout)
        assert token is not None, run.stdout
        secret(token[1].decode())
        path = f"{echo.base_path}/plain"
        assert await running.gateway.status(path, token=token[1].decode()) == 101

        def revoke(seen: Seen) -> None:
            page = seen.page
            seen.open(found["path"])
            page.get_by_label("Token, or its id").fill(token[1].decode())
            page.get_by_role("button", name="Revoke", exact=True).click()
            page.get_by_text("Revoked.").wait_for()
            button = page.get_by_role("button", name="Revoke key")
            button.click()
            page.get_by_role("button", name="Press again").click()
            page.get_by_role("button", name="Generate production key").wait_for()

        def pages(seen: Seen) -> None:
            for address, name in [
                ("/applications", "applications"),
                (found["path"], "application"),
                (f"/apis/{echo.id}/subscribe", "subscribe"),
            ]:
                seen.open(address)
                seen.check(f"{name}-ada")

        for width, theme in zip(WIDTHS, reversed(THEMES), strict=True):
            await running.visit(pages, user="ada", width=width, theme=theme)
        await running.visit(revoke, user="con")
        assert await running.gateway.status(path, token=token[1].decode()) == 401
