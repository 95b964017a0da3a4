"""The server end of the console: what a page asks for, and what it is told, over real sockets."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import ClientConnection, connect

from support.backends import Backend, start_backend, start_echo
from support.gateway import start_gateway
from support.portal_client import USERS, portal_client
from support.projects import api, asyncapi, write
from trio_gw.portal import attempt, console, outbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.trio.server import ServerConnection

    from support.gateway import RunningGateway

TOPICS: dict[str, Any] = {
    "/open": {"publish": {"x-auth-type": "None"}},
    "/rooms/{room}": {"publish": {"x-scopes": ["chat:write"]}},
    "/*": {"publish": {}},
}
TEST_KEY = {"kind": "test", "scopes": ["chat:write"]}


class ConsolePage:
    """A page of the console: asks, and takes what it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def ask(self, kind: str, **values: object) -> None:
        await self.socket.send(msgspec.json.encode({"type": kind, **values}).decode())

    async def told(self, kind: str) -> dict[str, Any]:
        """Wait for the next message of this kind; others are dropped."""
        with trio.fail_after(60):
            while True:
                found: dict[str, Any] = msgspec.json.decode(await self.socket.recv())
                if found["type"] == kind:
                    return found
                assert found["type"] != "fault" or kind == "fault", found

    async def connect(self, path: str, **values: object) -> dict[str, Any]:
        await self.ask("connect", path=f"/chat/1.0.0{path}", **{"key": TEST_KEY, **values})
        return await self.told("opened")

    async def frame(self, way: str = "in") -> dict[str, Any]:
        while (found := await self.told("frame"))["way"] != way:
            pass
        return found


@contextlib.asynccontextmanager
async def open_page(gateway: RunningGateway, **headers: str) -> AsyncIterator[ConsolePage]:
    async with portal_client(gateway, "con") as browser:
        name = f"__Host-trio-gw-{gateway.admin_port}"
        given = {"Cookie": f"{name}={browser.cookie}", "Origin": browser.origin, **headers}
        async with connect(
            f"wss://localhost:{gateway.admin_port}/portal/try",
            ssl=gateway.trust(),
            additional_headers={key: value for key, value in given.items() if value},
            max_size=None,
            proxy=None,
        ) as socket:
            yield ConsolePage(socket)


async def start(nursery: trio.Nursery, base: Path, backend: Backend) -> RunningGateway:
    write(base / "apis", "Chat", api("Chat", "/chat", backend.url), asyncapi(TOPICS))
    return await start_gateway(nursery, base, admin=True, admin_settings={"users": USERS})


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start(nursery, base, await start_echo(nursery, compression=None))


async def test_a_conversation(gateway: RunningGateway) -> None:
    async with open_page(gateway) as page:
        opened = await page.connect("/rooms/7", query="a=b", headers=[["X-Mine", "yes"]])
        assert opened["status"] == 101
        assert opened["request_id"].startswith("try-")
        assert ["x-request-id", opened["request_id"]] in opened["headers"]
        await page.ask("send", text="grüße")
        out, back = await page.frame("out"), await page.frame()
        for found in (out, back):
            assert (found["kind"], found["text"], found["size"]) == ("text", "grüße", 7)
            assert found["fin"]
        await page.ask("send", base64=base64.b64encode(b"\xff\x00").decode())
        assert (await page.frame())["base64"] == "/wA="
        await page.ask("ping", text="there?")
        assert (await page.told("pong"))["text"] == "there?"
        await page.ask("send", text="abcdef", fragments=3)
        sent = [await page.frame("out") for _ in range(3)]
        assert [(one["kind"], one["text"], one["fin"]) for one in sent] == [
            ("text", "ab", False),
            ("continuation", "cd", False),
            ("continuation", "ef", True),
        ]
        assert (await page.frame())["text"] == "abcdef"
        await page.ask("close", code=4001, reason="done")
        closed = await page.told("closed")
        assert (closed["code"], closed["by"], closed["clean"]) == (4001, "client", True)
        assert closed["explained"]["who"] == "you"
        # The next attempt of the same page.
        await page.connect("/rooms/8")


async def test_a_refusal_shows_what_a_browser_hides(gateway: RunningGateway) -> None:
    async with open_page(gateway) as page:
        await page.ask("connect", path="/chat/1.0.0/rooms/7")
        refused = await page.told("refused")
        assert (refused["status"], refused["phrase"]) == (401, "Unauthorized")
        assert refused["explained"]["code"] == "900901"
        assert "No token" in refused["explained"]["what"]
        assert '"code":"900901"' in refused["body"]
        await page.ask("connect", path="/chat/1.0.0/rooms/7", key={"kind": "test"})
        assert (await page.told("refused"))["explained"]["code"] == "900910"
        sandbox = {**TEST_KEY, "key_type": "SANDBOX"}
        await page.ask("connect", path="/chat/1.0.0/rooms/7", key=sandbox)
        assert "this type of key" in (await page.told("refused"))["explained"]["what"]
        await page.ask("connect", path="/nowhere")
        assert (await page.told("refused"))["explained"]["code"] == "404"


async def test_ends_are_explained(nursery: trio.Nursery, base: Path) -> None:
    async def farewell(connection: ServerConnection) -> None:
        what = await connection.recv()
        if what == "close":
            await connection.aclose(4000, "token expired")
        else:
            await connection.recv()

    gateway = await start(nursery, base, await start_backend(nursery, farewell))
    async with open_page(gateway) as page:
        await page.connect("/a")
        await page.ask("send", text="close")
        closed = await page.told("closed")
        assert (closed["code"], closed["reason"], closed["by"]) == (
            4000,
            "token expired",
            "backend",
        )
        assert "of an application" in closed["explained"]["what"]
        opened = await page.connect("/b")
        sessions = gateway.running.sessions
        (mine,) = [one for one in sessions if one.request_id == opened["request_id"]]
        assert mine.peer == "127.0.0.1"
        mine.end(1008, "token expired")
        closed = await page.told("closed")
        assert (closed["code"], closed["by"]) == (1008, "gateway")
        assert "has expired" in closed["explained"]["what"]


async def test_large_frames_are_cut_and_shown_on_demand(gateway: RunningGateway) -> None:
    async with open_page(gateway) as page:
        await page.connect("/a")
        text = "ü" * (1 << 19)
        await page.ask("send", text=text)
        found = await page.frame()
        assert (found["size"], found["cut"]) == (1 << 20, True)
        assert found["text"] == "ü" * (1 << 15)
        await page.ask("more", n=found["n"])
        rest = await page.told("rest")
        assert base64.b64decode(rest["base64"]).decode() == text
        assert not rest["cut"]
        await page.ask("more", n=4711)
        await page.told("fault")
        await page.ask("send", text="x" * ((1 << 20) + 1))
        assert "1 MiB" in (await page.told("fault"))["message"]


async def test_compressed_messages_are_shown_inflated(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start(nursery, base, await start_echo(nursery))
    async with open_page(gateway) as page:
        opened = await page.connect("/a", compress=True)
        assert opened["extensions"].startswith("permessage-deflate")
        for _ in range(2):
            await page.ask("send", text="again and again and again and again")
            found = await page.frame()
            assert found["text"] == "again and again and again and again"
            assert found["compressed"]
        assert found["size"] < 30


async def test_a_page_that_does_not_read_holds_nobody_up(
    nursery: trio.Nursery, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST", 16 << 10)
    done = trio.Event()

    async def flood(connection: ServerConnection) -> None:
        for _ in range(400):
            await connection.send(b"x" * 60_000)
        done.set()
        await connection.recv()

    gateway = await start(nursery, base, await start_backend(nursery, flood))
    async with open_page(gateway) as page:
        await page.ask("connect", path="/chat/1.0.0/a", key=TEST_KEY)
        with trio.fail_after(60):
            await done.wait()  # 24 MB went out, and the page has read nothing
        frames = skipped = 0
        while frames + skipped < 400:
            found = msgspec.json.decode(await page.socket.recv())
            frames += found["type"] == "frame"
            skipped += found.get("frames", 0)
        assert skipped > 100


async def test_what_a_page_may_not_ask_for(gateway: RunningGateway) -> None:
    async with open_page(gateway) as page:
        refused: list[dict[str, object]] = [
            {"path": "/a\r\nX: y"},
            {"path": "chat"},
            {"path": "/a b"},
            {"path": "/a?b"},
            {"path": "/ä"},
            {"path": "/a", "query": "x#y"},
            {"path": "/a", "host": "a\r\nb"},
            {"path": "/a", "host": "a b"},
            {"path": "/a", "headers": [["Host", "x"]]},
            {"path": "/a", "headers": [["Sec-WebSocket-Key", "x"]]},
            {"path": "/a", "headers": [["Transfer-Encoding", "chunked"]]},
            {"path": "/a", "headers": [["X-A", "a\r\nX-B: c"]]},
            {"path": "/a", "headers": [["X-A", "a\0"]]},
            {"path": "/a", "headers": [["X A", "a"]]},
            {"path": "/a", "headers": [["X-A", "a" * 5000]]},
            {"path": "/a", "headers": [["X-A", "a"]] * 33},
            {"path": "/a", "protocols": ["a, b"]},
            {"path": "/a", "key": {"kind": "token", "value": "a\r\nb"}},
            {"path": "/a", "key": {"kind": "token"}},
            {"path": "/a", "key": {"kind": "test", "scopes": ["a b"]}},
            {"path": "/chat/1.0.0/a", "key": {"kind": "test", "scopes": ["root"]}},
            {"path": "/a", "key": {"kind": "root"}},
            {},
        ]
        for values in refused:
            await page.ask("connect", **values)
            await page.told("fault")
        for text in ("{", "[]", '{"type":"root"}', '{"type":"send","text":"x"}', "[" * 100_000):
            await page.socket.send(text)
            await page.told("fault")
        await page.connect("/a")
        wrong: list[tuple[str, dict[str, object]]] = [
            ("connect", {"path": "/chat/1.0.0/a"}),
            ("send", {}),
            ("send", {"text": "a", "base64": "YQ=="}),
            ("send", {"base64": "?"}),
            ("ping", {"text": "ü" * 100}),
            ("close", {"code": 1006}),
            ("close", {"code": -1}),
            ("close", {"code": 1000, "reason": "ü" * 100}),
        ]
        for kind, given in wrong:
            await page.ask(kind, **given)
            await page.told("fault")


async def test_the_backend_is_told_when_the_page_leaves(nursery: trio.Nursery, base: Path) -> None:
    left: list[int] = []
    ended = trio.Event()

    async def wait(connection: ServerConnection) -> None:
        try:
            await connection.recv()
        except ConnectionClosed as error:
            left.append(error.rcvd.code if error.rcvd else 0)
            ended.set()

    gateway = await start(nursery, base, await start_backend(nursery, wait))
    async with open_page(gateway) as page:
        await page.connect("/a")
        await page.socket.stream.aclose()
        with trio.fail_after(60):
            await ended.wait()
    assert left == [1001]
    assert len(gateway.running.sessions) == 0


async def test_who_may_open_it(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    for headers, status in (
        ({"Cookie": ""}, 401),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ):
        with pytest.raises(InvalidStatus) as caught:
            async with open_page(gateway, **headers):
                pass
        assert caught.value.response.status_code == status
    async with portal_client(gateway, "con") as browser:
        answer = await browser.get("/try", Origin=browser.origin)
        assert answer.status_code == 426
    monkeypatch.setattr(console, "LIFETIME", 0.3)
    async with open_page(gateway) as page:
        await page.connect("/a")
        with trio.fail_after(60):
            await page.socket.wait_closed()
        assert page.socket.close_code == 1001


async def test_a_logout_ends_it(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "CHECK", 0.05)
    async with portal_client(gateway, "con") as browser:
        cookie = f"__Host-trio-gw-{gateway.admin_port}={browser.cookie}"
        async with open_page(gateway, Cookie=cookie) as page:
            await page.connect("/rooms/7")
            assert (await browser.submit("/logout", {})).status_code == 303
            with trio.fail_after(30):
                await page.socket.wait_closed()
            assert (page.socket.close_code, page.socket.close_reason) == (1008, "logged out")


async def test_a_handshake_is_given_up(
    nursery: trio.Nursery, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "GOODBYE", 0.2)
    silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent[0].socket.getsockname()[1]
    gateway = await start(nursery, base, Backend(port, []))
    async with open_page(gateway) as page:
        await page.ask("connect", path="/chat/1.0.0/a", key=TEST_KEY)
        await page.told("dialing")
        await page.ask("close")
        assert "given up" in (await page.told("fault"))["message"]
        assert (await page.told("closed"))["by"] == "client"
    for listener in silent:
        await listener.aclose()
