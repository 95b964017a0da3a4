"""The page that makes an API, in a real browser: from an empty gateway to a deployed API."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from support.backends import start_echo
from support.looks import look_around
from support.portal import portal
from support.portal_client import portal_client
from trio_gw.proxy import local_echo

if TYPE_CHECKING:
    import trio

    from support.portal import Seen

SAMPLE = Path(__file__).parents[3] / "apis/Echo-1.0.0"


async def test_from_nothing_to_a_deployed_api(nursery: trio.Nursery, tmp_path: Path) -> None:
    backend = await start_echo(nursery)
    local_echo.announce("localhost", int(backend.url.rpartition(":")[2]))

    def look(seen: Seen) -> None:
        page = seen.page
        seen.open("/")
        # The front page of an empty gateway is the form, and it has the focus.
        page.wait_for_selector("h1:text('Your first API')")
        assert page.evaluate("document.activeElement.id") == "backend"
        seen.picture("first")
        page.keyboard.type("ftp://x")
        page.wait_for_selector("#backend-error:not([hidden])")
        assert "scheme" in page.inner_text("#backend-error")
        page.get_by_role("button", name="Use the built-in echo backend").press("Enter")
        page.wait_for_selector(".will li")
        assert page.input_value("#name") == "MyEcho"
        assert page.input_value("#context") == "/my-echo"
        assert page.input_value("#version") == "1.0.0"
        assert "/my-echo/1.0.0/" in page.inner_text(".will")
        look_around(seen, "new")
        page.fill("#topics", "/rooms/{room}\nwrong")
        page.wait_for_selector("#topics-error:not([hidden])")
        page.fill("#topics", "/rooms/{room}")
        page.wait_for_selector(".will code:has-text('/rooms/{room}')")
        page.get_by_role("link", name="From an AsyncAPI file").click()
        page.set_input_files("#file", str(SAMPLE / "Definitions/asyncapi.yaml"))
        page.wait_for_selector(".will code:has-text('/plain')")
        look_around(seen, "new-asyncapi")
        page.get_by_role("link", name="From a backend URL").click()
        page.wait_for_selector(".will code:has-text('/rooms/{room}')")
        page.get_by_role("button", name="Create and deploy").press("Enter")
        page.wait_for_selector("#landed:not([hidden])")
        assert "Live on localhost, 1 topic, " in page.inner_text("#landed")
        look_around(seen, "landed")
        # From the bar it is two clicks and a word to an echoed message.
        page.locator("#landed a").click()
        page.wait_for_url("**/try?topic=*")
        page.get_by_label("{room}", exact=True).fill("7")
        page.get_by_role("button", name="Connect", exact=True).click()
        send = page.get_by_role("button", name="Send", exact=True)
        page.wait_for_selector('[data-act="send"]:enabled')
        page.get_by_label("Message", exact=True).fill("hello")
        send.click()
        page.wait_for_selector(".frames li:nth-of-type(2):has-text('hello')")

    async with portal(tmp_path, echo=False) as running:
        await running.visit(look, user="pub")
        gateway = running.gateway
        async with gateway.connect("/my-echo/1.0.0/rooms/7", gateway.token()) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        await _upload(gateway)


async def _upload(gateway: object) -> None:
    """A form without scripts deploys a zip; what is wrong with one is told on a page."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for name in ("api.yaml", "Definitions/asyncapi.yaml"):
            zipped.write(SAMPLE / name, name)
    async with portal_client(gateway, "pub") as pub:  # type: ignore[arg-type]

        async def sent(data: bytes, query: str = "") -> tuple[int, str]:
            answer = await pub.http.post(
                f"/portal/new{query}",
                files={"file": ("x<script>.zip", data)},
                headers={"Origin": pub.origin},
            )
            return answer.status_code, answer.headers.get("location", "") or answer.text

        status, where = await sent(packed.getvalue())
        assert status == 303
        assert (await pub.http.get(where)).status_code == 200
        status, text = await sent(packed.getvalue())
        assert status == 422
        assert "already deployed" in text
        assert (await sent(packed.getvalue(), "?override=true"))[0] == 303
        status, text = await sent(b"PK no zip")
        assert status == 422
        assert "<script>" not in text.replace("<script type", "").replace("<script src", "")
        foreign = await pub.http.post(
            "/portal/new", files={"file": ("x.zip", b"")}, headers={"Origin": "https://evil.test"}
        )
        assert foreign.status_code == 403
