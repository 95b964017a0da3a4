"""The operator's pages in a real browser, and their endpoints and events behind it."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from support.backends import start_echo
from support.gateway import start_gateway
from support.portal import THEMES, WIDTHS, portal
from support.portal_client import USERS, portal_client
from support.projects import api, asyncapi, write
from trio_gw.portal.operate import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.gateway import RunningGateway
    from support.portal import Seen
    from support.portal_client import PortalClient

OPEN = {"publish": {}, "x-auth-type": "None"}
PAGES = (
    *("connections", "endings", "limits", "backends", "problems", "denials", "log", "settings"),
)
HOSTILE = "<img src=x onerror=alert(1)>"


async def start(nursery: trio.Nursery, base: Path, **settings: Any) -> RunningGateway:
    """Start a gateway with one API on an echo backend, and one whose backend is down."""
    (base / "apis").mkdir(exist_ok=True)
    backend = await start_echo(nursery)
    write(base / "apis", "chat", api("Chat", "/chat", backend.url), asyncapi({"/r/{x}": OPEN}))
    write(base / "apis", "down", api("Down", "/down", "ws://127.0.0.1:1"), asyncapi({"/x": OPEN}))
    users = {"users": USERS}
    return await start_gateway(nursery, base, admin=True, admin_settings=users, **settings)


class Events:
    """Reads an event stream from a connection of its own."""

    def __init__(self, connection: trio.abc.Stream) -> None:
        self._connection = connection
        self._received = b""
        self.id = ""

    async def line(self) -> bytes:
        """Return the next line; sizes of chunks are lines, too, that mean nothing."""
        while b"\n" not in self._received:
            data = await self._connection.receive_some()
            if not data:
                raise AssertionError("the stream has ended")
            self._received += bytes(data)
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r")

    async def next(self, name: str) -> Any:
        """Return the data of the next event with this name."""
        kind = b""
        with trio.fail_after(20):
            while True:
                field, _, value = (await self.line()).partition(b": ")
                if field == b"id":
                    self.id = value.decode()
                elif field == b"event":
                    kind = value
                elif field == b"data" and kind == name.encode():
                    return msgspec.json.decode(value)


@contextlib.asynccontextmanager
async def stream(
    gateway: RunningGateway, client: PortalClient, query: str, after: str = ""
) -> AsyncIterator[Events]:
    """Open an event stream."""
    connection = await trio.open_ssl_over_tcp_stream(
        "localhost", gateway.admin_port, ssl_context=gateway.trust(), https_compatible=True
    )
    lines = [f"GET /portal/events?{query} HTTP/1.1", f"Host: localhost:{gateway.admin_port}"]
    lines += [f"Cookie: __Host-trio-gw-{gateway.admin_port}={client.cookie}"]
    lines += [f"Last-Event-ID: {after}"] if after else []
    try:
        await connection.send_all("\r\n".join([*lines, "", ""]).encode())
        found = Events(connection)
        with trio.fail_after(20):
            assert await found.line() == b"HTTP/1.1 200 OK"
            while await found.line():
                pass
        yield found
    finally:
        await trio.aclose_forcefully(connection)


async def test_events_come_each_second_and_endings_without_a_gap(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    gateway = await start(nursery, tmp_path)
    async with portal_client(gateway, "ada") as client:
        async with stream(gateway, client, "topics=stats,apis,problems,endings") as found:
            first = await found.next("apis")
            problems = await found.next("problems")
            assert (problems["errors"], problems["missing"]) == (0, [])
            async with gateway.connect("/chat/1.0.0/r/1") as socket:
                await socket.send("hello")
                assert await socket.recv() == "hello"
                stats = await found.next("stats")
                while stats["totals"]["open"] != 1:
                    stats = await found.next("stats")
                assert stats["apis"]["Chat:1.0.0"][0] == 1
                later = await found.next("stats")
                assert later["at"] > stats["at"]
            ended = await found.next("endings")
            while not ended["rows"]:
                ended = await found.next("endings")
            assert [(one["code"], one["api"]) for one in ended["rows"]] == [(1000, "Chat")]
            last = found.id
            write(
                tmp_path / "apis",
                "new",
                api("New", "/new", "ws://127.0.0.1:1"),
                asyncapi({"/x": OPEN}),
            )
            assert (await found.next("apis"))["digest"] != first["digest"]
        # Nobody listens while two more end; the next stream begins with exactly those.
        for _ in range(2):
            assert await gateway.status("/down/1.0.0/x", token="") == 503
        async with stream(gateway, client, "topics=endings", last) as found:
            ended = await found.next("endings")
            while len(ended["rows"]) < 2:
                ended["rows"] += (await found.next("endings"))["rows"]
            assert [one["status"] for one in ended["rows"]] == [503, 503]
            assert ended["lost"] == 0


async def test_who_may_see_what(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start(nursery, tmp_path)
    async with portal_client(gateway, "con") as client:
        for topic in ("problems", "endings"):
            assert (await client.get(f"/events?topics={topic}")).status_code == 403
        assert (await client.get("/events?topics=weather")).status_code == 422
        async with stream(gateway, client, "topics=stats") as found:
            stats = await found.next("stats")
            assert set(stats) == {"at", "totals"}
            assert set(stats["totals"]) == {"open", "messages_in", "messages_out"}
        assert (await client.get("/api/history?api=Chat:1.0.0")).status_code == 403
        found = (await client.get("/api/history")).json()
        assert set(found["series"]["columns"]) == {"open", "messages_in", "messages_out"}
        assert (await client.get("/api/stats")).json()["apis"] == {}
    async with portal_client(gateway, "pub") as client:
        assert (await client.get("/api/problems")).status_code == 200
        assert (await client.get("/operate/problems")).status_code == 200
        for path in ("/operate", "/api/connections", "/api/log", "/api/settings"):
            assert (await client.get(path)).status_code == 403
        close = {"match": "", "expect": 0}
        assert (await client.send("POST", "/api/connections/close", close)).status_code == 403
    async with portal_client(gateway, "ada") as client:
        text = (await client.get("/api/settings")).text
        assert "••••••" in text
        assert not any(user["password"] in text for user in USERS)
        answer = await client.send("POST", "/api/connections/close", close, {"X-Trio-GW": ""})
        assert answer.status_code == 403


async def test_a_stream_ends_with_its_session(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start(nursery, tmp_path)
    async with (
        portal_client(gateway, "ada") as client,
        stream(gateway, client, "topics=apis") as found,
    ):
        await found.next("apis")
        assert (await client.submit("/logout", {})).status_code == 303
        assert await found.next("session") == {"expires": None}


async def test_a_slow_reader_is_dropped(monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "SLOW", 0.01)
    written: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            written.append(message["body"])
            await trio.sleep_forever()

    async def receive() -> Any:
        await trio.sleep_forever()

    stalled = events.EventStream.__new__(events.EventStream)
    stalled.raw_headers = []
    stalled._written = 0.0
    with trio.fail_after(5):
        await stalled({}, receive, send)
    assert written == [b"retry: 2000\n\n"]


async def test_pages_in_a_browser(tmp_path: Path) -> None:
    async with portal(tmp_path) as running:
        gateway = running.gateway
        assert await gateway.status(f"/{HOSTILE.replace(' ', '%20')}", token="") == 404
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for number in range(3):
                path = "/echo/1.0.0/plain"
                agent = f"agent-{number}{HOSTILE}"
                client = await stack.enter_async_context(
                    gateway.connect(path, gateway.token(), user_agent_header=agent)
                )
                clients.append(client)

            def overview(seen: Seen) -> None:
                seen.open("/operate")
                seen.page.get_by_text("Open connections").wait_for()
                seen.page.wait_for_function(
                    "document.querySelector('#chart-open .legend').textContent.trim() === '3'"
                )
                seen.check("operate")
                chart = seen.page.get_by_role("group", name="Open connections")
                chart.focus()
                seen.page.keyboard.press("End")
                spoken = chart.locator("[aria-live]")
                assert re.search(r": Open 3$", spoken.text_content() or "")
                seen.page.locator("#chart-open").get_by_role("button", name="Table").click()
                seen.page.locator("#chart-open tbody tr").first.wait_for()
                assert seen.violations() == []

            def pages(seen: Seen) -> None:
                for name in PAGES:
                    seen.open(f"/operate/{name}")
                    seen.page.locator("h1").wait_for()
                    seen.check(f"operate-{name}")

            def close(seen: Seen) -> None:
                page = seen.page
                seen.open("/operate/connections")
                page.get_by_role("button", name="Details").first.click()
                page.get_by_text("agent-").wait_for()
                seen.picture("operate-details", whole=False)
                page.get_by_role("button", name="Back").click()
                page.get_by_label("Filter").fill("topic:/plain")
                page.get_by_text("3 of 3").wait_for()
                page.get_by_role("button", name="Close all matching").click()
                page.get_by_text("3 connections").wait_for()
                assert seen.violations() == []
                seen.picture("operate-close", whole=False)
                page.get_by_label("Close code").fill("4009")
                page.get_by_label("Reason, which").fill("maintenance")
                page.get_by_role("button", name="Close 3").click()
                page.get_by_text("No open connection").wait_for()
                seen.open("/operate/endings")
                page.get_by_label("Find").fill("maintenance")
                page.get_by_text("4009").nth(2).wait_for()
                assert seen.faults == []

            def deny(seen: Seen) -> None:
                page = seen.page
                seen.open("/operate/denials")
                page.get_by_label("Which").fill("203.0.113.999")
                page.get_by_role("button", name="Deny").click()
                page.get_by_text("is not an IP address").wait_for()
                seen.faults.clear()  # the console shows the 422
                page.get_by_label("Which").fill("203.0.113.0/24")
                page.get_by_label("Reason").fill("a flood")
                page.get_by_role("button", name="Deny").click()
                page.get_by_role("button", name="Remove address").click()
                page.get_by_role("button", name="Remove", exact=True).last.click()
                page.get_by_text("Nobody is denied").wait_for()
                assert seen.faults == []

            for width, theme in zip(WIDTHS, THEMES, strict=True):
                await running.visit(overview, user="ada", width=width, theme=theme)
            await running.visit(pages, user="ada", width=WIDTHS[0], theme=THEMES[1])
            await running.visit(close, user="ada")
            for client in clients:
                await client.wait_closed()
                assert (client.close_code, client.close_reason) == (4009, "maintenance")
            await running.visit(deny, user="ada")
