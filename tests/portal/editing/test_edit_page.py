"""The editor in a real browser: form and text of one draft, review, deploy, and a race."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.backends import start_echo
from support.looks import look_around
from support.portal import portal
from support.portal_client import portal_client

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from support.portal import Portal, Seen


async def _deploy(running: Portal, backend: str, note: str, path: str = "/rooms") -> str:
    """Deploy a version of the API, as another publisher does; return its id."""
    async with portal_client(running.gateway, "ada") as ada:
        topics = [f"{path}/{{room}}", "/news"]
        body = {"from": "backend", "backend": backend, "name": "Chat", "topics": topics}
        made = (await ada.send("POST", "/api/projects", body)).json()
        given = {"files": made["files"], "override": True, "note": note}
        answer = await ada.send("POST", "/api/deployments", given)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])


async def test_a_change_without_fear(nursery: trio.Nursery, tmp_path: Path) -> None:
    backend = await start_echo(nursery)
    async with portal(tmp_path, echo=False) as running:
        api = await _deploy(running, backend.url, "first")

        def change(seen: Seen) -> None:
            page = seen.page
            seen.open(f"/apis/{api}/edit")
            page.wait_for_selector("#problems .good")
            # Who types on while the server answers loses nothing.
            page.get_by_label("Timeout in ms").first.fill("5000")
            page.keyboard.press("Tab")
            page.keyboard.type("3")
            page.keyboard.press("Tab")
            page.wait_for_selector("#saved:has-text('Draft kept')")
            page.locator("summary", has_text="/rooms/{room}").click()
            page.get_by_label("Scopes", exact=True).first.fill("chat:write")
            page.get_by_label("Path at the backend").first.fill("/rooms?id={uri.var.wrong}")
            page.get_by_label("Path at the backend").first.press("Tab")
            place = page.locator("#problems button.place").first
            place.wait_for()
            assert "asyncapi.yaml:" in place.inner_text()
            look_around(seen, "edit-form")
            # The problem leads to its place in the text, where the line is marked.
            place.click()
            page.wait_for_selector("#source:focus")
            assert "uri.var.wrong" in page.evaluate(
                "(() => { const t = document.getElementById('source');"
                " return t.value.slice(t.selectionStart, t.selectionEnd) })()"
            )
            page.wait_for_selector(".mark.error")
            look_around(seen, "edit-text")
            text = page.input_value("#source")
            page.fill("#source", text.replace("uri.var.wrong", "uri.var.room"))
            page.wait_for_selector("#problems .good")
            # Tab indents; Escape, then Tab leaves.
            page.focus("#source")
            page.keyboard.press("Control+End")
            page.keyboard.type("# end")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == "source"
            assert page.input_value("#source").endswith("# end  ")
            page.keyboard.press("Escape")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") != "source"
            page.get_by_role("button", name="Form", exact=True).click()
            mapping = page.get_by_label("Path at the backend").first
            mapping.wait_for()
            assert mapping.input_value() == "/rooms?id={uri.var.room}"
            page.wait_for_selector("#saved:has-text('Draft kept')")
            # A closed tab loses nothing.
            page.reload()
            page.wait_for_selector("#problems .good")
            page.get_by_role("button", name="Review").click()
            page.wait_for_selector(".meaning li")
            meaning = page.inner_text(".meaning")
            assert "now asks for chat:write, any valid token before" in meaning
            assert page.locator(".diff .ins", has_text="x-scopes").count() == 1
            for line in ('actionDuration: "5000"', 'retryTimeOut: "3"'):
                assert page.locator(".diff .ins", has_text=line).count() == 1
            look_around(seen, "review")

        await running.visit(change, user="pub")
        await _deploy(running, backend.url, "meanwhile", "/halls")

        def race(seen: Seen) -> None:
            page = seen.page
            seen.open(f"/apis/{api}/edit")
            page.wait_for_selector("text=was deployed after your draft began")
            page.get_by_role("button", name="Review").click()
            page.get_by_label("Note").fill("scopes <b>")
            page.get_by_role("button", name="Deploy", exact=True).click()
            page.wait_for_selector("text=What they changed since you began")
            assert "by ada" in page.inner_text("#notices")
            look_around(seen, "race")
            page.get_by_role("button", name="Review mine against theirs").click()
            page.wait_for_selector(".meaning li:has-text('/halls')")
            page.get_by_role("button", name="Deploy", exact=True).click()
            page.wait_for_url("**/apis/*")
            page.wait_for_selector("#landed:not([hidden])")
            assert "r3 is live on localhost" in page.inner_text("#landed")

        await running.visit(race, user="pub")
        async with portal_client(running.gateway, "pub") as pub:
            drafts = await pub.get("/api/drafts/carbon.super%2F" + api)
            assert drafts.status_code == 404
