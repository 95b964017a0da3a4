"""The pages of revisions and lifecycle in a browser: deploy, compare, roll back, retire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.portal import THEMES, WIDTHS, portal
from support.portal_client import portal_client
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    from support.portal import Seen

ID = "chat id/1"


async def test_the_pages(base: Path) -> None:
    definition = json.dumps(asyncapi({"/*": {"publish": {}}}), indent=2)
    meta = api("Chat", "/chat", "ws://localhost:1", id=ID)
    write(base / "apis", "chat", meta, asyncapi({"/*": {"publish": {}}}))
    async with portal(base) as running, portal_client(running.gateway, "pub") as client:
        for number in range(1, 4):
            more = {"endpointConfig": {"production_endpoints": {"url": f"ws://localhost:{number}"}}}
            text = json.dumps(api("Chat", "/chat", "", id=ID, **more), indent=2)
            files = {"api.yaml": text, "Definitions/asyncapi.yaml": definition}
            body = {"files": files, "override": True, "note": f"Backend {number}, <b>not bold</b>"}
            assert (await client.send("POST", "/api/deployments", body)).status_code == 200

        def looks(seen: Seen) -> None:
            address = "/apis/chat%20id%2F1"
            seen.open(f"{address}/revisions")
            seen.check("revisions")
            seen.open(f"{address}/revisions/1")
            seen.check("revision")
            seen.open(f"{address}/lifecycle")
            seen.check("lifecycle")
            seen.open("/apis/echo/lifecycle", status=404)

        for width, theme in zip(WIDTHS, THEMES, strict=True):
            await running.visit(looks, user="pub", width=width, theme=theme)

        def works(seen: Seen) -> None:
            page = seen.page
            seen.open("/apis/chat%20id%2F1/revisions")
            page.get_by_role("link", name="r1", exact=True).click()
            assert '+        "url": "ws://localhost:1"' in page.inner_text(".diff")
            page.get_by_role("button", name="Roll back").click()
            assert "r4 is live" in page.inner_text(".notice[role=status]:not([hidden])")
            with page.expect_download() as download:
                page.get_by_role("link", name="Download").first.click()
            assert download.value.suggested_filename == "Chat_1.0.0-r4.zip"
            page.get_by_role("link", name="Lifecycle").click()
            page.get_by_role("button", name="Deprecate").click()
            assert "Deprecated now" in page.inner_text(".notice[role=status]:not([hidden])")
            seen.picture("deprecated")
            page.get_by_label("Type the name").fill("Chatter")
            page.get_by_role("button", name="Retire").click()
            assert "type the name" in page.inner_text(".notice[role=alert]")
            page.get_by_label("Type the name").fill("Chat")
            page.get_by_role("button", name="Retire").click()
            assert "Retired now" in page.inner_text(".notice[role=status]:not([hidden])")
            seen.picture("retired")
            seen.open("/unserved")
            seen.picture("unserved")
            page.get_by_role("link", name="Chat:1.0.0").click()
            page.get_by_role("link", name="r2", exact=True).click()
            page.get_by_role("button", name="Roll back").click()
            page.get_by_label("Serve the version").check()
            page.get_by_role("button", name="Back to that version").click()
            assert "Undeployed" in page.inner_text(".notice[role=status]:not([hidden])")
            seen.picture("from-the-folder")

        await running.visit(works, user="pub", java_script_enabled=False)
