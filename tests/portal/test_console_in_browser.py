"""The console in a real browser: a conversation, a refusal, ends, large and hostile input, two."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import trio
from websockets.exceptions import ConnectionClosed

from support.backends import start_backend
from support.portal import portal
from support.projects import api, asyncapi, write
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page
    from websockets.trio.server import ServerConnection

    from support.portal import Portal, Seen

HOSTILE = '"><img src=x onerror=alert(1)> \u202e {{x}} <script>'
PAYLOAD = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "maxLength": 20}},
}
CHAT: dict[str, Any] = {
    "/open": {"publish": {"x-auth-type": "None"}},
    "/rooms/{room}": {
        "parameters": {"room": {"schema": {"type": "string", "examples": ["lobby"]}}},
        "publish": {
            "x-scopes": ["chat:write"],
            "message": {
                "name": "chat",
                "payload": PAYLOAD,
                "examples": [{"name": "greeting", "payload": {"text": "Hello"}}],
            },
        },
    },
}


async def chat(connection: ServerConnection) -> None:
    """Echo; `bye` and `rude` close, `hostile` sends what a page must not run."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = await connection.recv()
            if message == "bye":
                await connection.aclose(4000, HOSTILE)
            elif message == "hostile":
                await connection.send(HOSTILE)
            await connection.send(message)


def open_console(seen: Seen, running: Portal, topic: str) -> Page:
    project = next(iter(running.gateway.running.live.table.apis.values())).project
    seen.open(f"/apis/{project.id}/try?topic={topic}")
    seen.page.locator(".connect").wait_for()
    return seen.page


def state(page: Page, text: str, at: int = 0) -> None:
    page.locator("[data-state]", has_text=text).nth(at).wait_for()


def connect(page: Page) -> None:
    page.get_by_role("button", name="Connect", exact=True).click()
    state(page, "101 in")


def send(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Control+Enter")


def converse(seen: Seen, running: Portal) -> None:
    """Fill in nothing but the room; send the example; look at it in each form."""
    page = open_console(seen, running, "/rooms/{room}")
    room = page.get_by_label("{room}")
    page.locator("[data-url]", has_text="/chat/1.0.0/rooms/lobby").wait_for()
    room.fill('a/b "ü')
    assert "/rooms/a%2Fb%20%22%C3%BC" in page.inner_text("[data-url]")
    connect(page)
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator(".frame.in").wait_for()
    assert "fits the schema" in page.inner_text("[data-check]")
    page.locator(".frame.in button").click()
    assert page.inner_text("[data-body]") == json.dumps({"text": "Hello"}, indent=2)
    for form, text in (("Hex", "7b 0a 20 20 22 74"), ("Raw", "Hello"), ("Diff", "no earlier")):
        page.get_by_role("button", name=form, exact=True).click()
        assert text in page.inner_text("[data-body]")
    assert page.inner_text("[data-trips]").startswith("round trip ")
    send(page, '{"text": 7}')
    page.locator("[data-check]", has_text="text is number, not string").wait_for()
    page.locator(".frame.in", has_text="7").wait_for()
    page.get_by_text("Handshake", exact=True).click()
    head = page.inner_text("[data-head]")
    assert "sec-websocket-key" in head
    assert "authorization: …" in head
    assert "Bearer" not in head
    seen.check("console")
    # Filter, pause, export.
    page.get_by_label("Filter the log").fill("/hel+o/i")
    assert page.locator(".frame").count() == 2
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    rows = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert [row["way"] for row in rows] == ["note", "out", "in", "out", "in"]
    page.get_by_role("button", name="Disconnect").click()
    state(page, "closed: 1000")
    assert "did its job" in page.inner_text("[data-end]")


def refused(seen: Seen, running: Portal) -> None:
    page = open_console(seen, running, "/rooms/{room}")
    page.get_by_label("{room}").fill("7")
    page.get_by_label("Key", exact=True).select_option("token")
    page.get_by_label("Token or key").fill(secret("canary-5f2c-token"))
    page.get_by_role("button", name="Connect", exact=True).click()
    state(page, "refused: 401")
    end = page.inner_text("[data-end]")
    assert "code 900901" in end
    assert "request id try-" in end
    seen.check("console-refused")
    stored = page.evaluate("JSON.stringify(localStorage)")
    assert "rooms/{room}" in stored
    assert "canary" not in stored
    page.get_by_text("Copy as a command").click()
    assert "canary" not in page.inner_text("#snippet-1")
    page.get_by_label("with token").check()
    assert "canary" in page.inner_text("#snippet-1")
    # As a web page sees it, and why.
    page.get_by_label("Way").select_option("browser")
    page.get_by_role("button", name="Connect", exact=True).click()
    state(page, "closed: 1006")
    page.get_by_role("button", name="Why?").click()
    state(page, "refused: 401")
    seen.faults.clear()  # the browser complains about its own 401


def hostile(seen: Seen, running: Portal) -> None:
    page = open_console(seen, running, "/open")
    page.on("dialog", lambda _: seen.faults.append("a script ran"))
    connect(page)
    send(page, HOSTILE)
    page.locator(".frame.in").wait_for()
    page.locator(".frame.in button").click()
    assert page.locator("[data-body]").text_content() == HOSTILE.replace("\u202e", "\\u202e")
    big = "y" * (1 << 20)
    page.get_by_label("Message", exact=True).evaluate("(node, text) => (node.value = text)", big)
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator(".frame.in", has_text="yyy").locator("button").click()
    page.get_by_role("button", name="Load the rest").click()
    page.get_by_role("button", name="Load the rest").wait_for(state="hidden")
    assert len(page.locator("[data-body]").text_content() or "") == len(big)
    page.get_by_text("Ping", exact=True).click()
    page.get_by_role("button", name="Send a Ping").click()
    page.locator(".frame.note", has_text="pong after").wait_for()
    send(page, "bye")
    state(page, "closed: 4000")
    assert HOSTILE.replace("\u202e", "")[:8] in page.inner_text("[data-end]")
    seen.check("console-end")


def two(seen: Seen, running: Portal) -> None:
    page = open_console(seen, running, "/open")
    page.get_by_role("button", name="Second console").click()
    for at in (0, 1):
        page.get_by_role("button", name="Connect", exact=True).nth(at).click()
        state(page, "101 in", at)
    seen.check("console-two")
    page.goto("about:blank")  # the page leaves in the middle


def drawer(seen: Seen, running: Portal) -> None:
    """Beside a topic, and back by Escape."""
    project = next(iter(running.gateway.running.live.table.apis.values())).project
    seen.open(f"/apis/{project.id}/topics/0")
    page = seen.page
    page.get_by_role("link", name="Try", exact=True).first.click()
    page.get_by_role("dialog").locator(".connect").wait_for()
    page.get_by_role("dialog").get_by_label("Key", exact=True).select_option("none")
    assert page.locator("dialog .connect [name=topic]").input_value() == "0"
    connect(page)
    send(page, "from the drawer")
    page.locator("dialog .frame.in", has_text="from the drawer").wait_for()
    seen.check("console-drawer")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


async def test_the_console(nursery: trio.Nursery, tmp_path: Path) -> None:
    backend = await start_backend(nursery, chat, max_size=None)
    write(tmp_path / "apis", "Chat", api("Chat", "/chat", backend.url), asyncapi(CHAT))
    async with portal(tmp_path, echo=False) as running:
        await running.visit(lambda seen: converse(seen, running), user="con")
        await running.visit(lambda seen: refused(seen, running), user="con", theme="dark")
        await running.visit(lambda seen: hostile(seen, running), user="con", width=360)
        await running.visit(lambda seen: two(seen, running), user="con", width=360, theme="dark")
        await running.visit(lambda seen: drawer(seen, running), user="con")
        with trio.fail_after(60):
            while len(running.gateway.running.sessions):
                await trio.lowlevel.checkpoint()
