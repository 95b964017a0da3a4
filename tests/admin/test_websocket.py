"""The server's end of a WebSocket on the admin listener, over real sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio

from trio_gw.admin import websocket
from trio_gw.admin.json_responses import FaultError
from trio_gw.admin.websocket import WebSocket, WebSocketClosedError, accept
from trio_gw.relay.plain import PlainStream
from trio_gw.wire import frames
from trio_gw.wire.frame_reader import FrameReader, WholeFrame
from trio_gw.wire.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
UPGRADE = [(b"upgrade", b"WebSocket"), (b"connection", b"keep-alive, Upgrade"), KEY]
VERSION = (b"sec-websocket-version", b"13")


class Client:
    """The other end: sends masked frames, and reads what comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.stream = PlainStream(sock)
        self._reader = FrameReader(masked=False, keep=1 << 20)
        self._frames: Iterator[WholeFrame] = iter(())

    async def send(self, *parts: tuple[int, bytes]) -> None:
        data = b"".join(frame(first, payload, masked=True) for first, payload in parts)
        await self.stream.send_all(data)

    async def receive(self) -> WholeFrame:
        with trio.fail_after(60):
            while (found := next(self._frames, None)) is None:
                self._frames = self._reader.feed(await self.stream.receive_some())
        return found


@pytest.fixture
def ends() -> Iterator[tuple[WebSocket, Client]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield WebSocket(PlainStream(ours), b""), Client(theirs)


async def test_messages_come_whole_whatever_is_between(ends: tuple[WebSocket, Client]) -> None:
    server, client = ends
    await client.send(
        (TEXT, b"gr\xc3"), (PING | FIN, b"there?"), (CONTINUATION | FIN, b"\xbc\xc3\x9fe")
    )
    await client.send((PONG | FIN, b""), (TEXT | FIN, b"two"), (TEXT | FIN, b""))
    assert [await server.receive() for _ in range(3)] == ["grüße", "two", ""]
    assert await client.receive() == WholeFrame(PONG | FIN, 6, b"there?")
    await server.send(b"one", b"two")
    found = [await client.receive(), await client.receive()]
    assert found == [WholeFrame(TEXT | FIN, 3, b"one"), WholeFrame(TEXT | FIN, 3, b"two")]
    await client.send((CLOSE | FIN, b"\x0f\xa1done"))
    with pytest.raises(WebSocketClosedError, match="4001 done"):
        await server.receive()
    assert frames.parse_close((await client.receive()).payload).code == 4001
    with pytest.raises(WebSocketClosedError):
        await server.send(b"late")


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([(BINARY | FIN, b"x")], 1003),
        ([(TEXT | FIN, b"\xff")], 1007),
        ([(TEXT | FIN | 0x40, b"x")], 1002),
        ([(TEXT | FIN, b"x" * (websocket.MAX_MESSAGE + 1))], 1009),
        ([(TEXT, b"")] + [(CONTINUATION, b"")] * websocket.MAX_PARTS, 1009),
        ([(CLOSE | FIN, b"\x03\xec")], 1002),
    ],
)
async def test_nonsense_closes(
    ends: tuple[WebSocket, Client], parts: list[tuple[int, bytes]], code: int
) -> None:
    server, client = ends
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, *parts)
        with pytest.raises(WebSocketClosedError):
            await server.receive()
        assert frames.parse_close((await client.receive()).payload).code == code
        nursery.cancel_scope.cancel()


async def test_a_client_that_is_silent_or_gone_is_closed(
    ends: tuple[WebSocket, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = ends
    monkeypatch.setattr(websocket, "IDLE", 0.05)
    with pytest.raises(WebSocketClosedError, match="idle"):
        await server.receive()
    assert frames.parse_close((await client.receive()).payload).code == 1001
    client.stream.close()
    with pytest.raises(WebSocketClosedError, match="hung up"):
        await server.receive()


async def test_a_client_that_does_not_read_is_given_up(
    ends: tuple[WebSocket, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = ends
    monkeypatch.setattr(websocket, "SEND_TIMEOUT", 0.05)
    with pytest.raises(WebSocketClosedError, match="does not read"):
        await server.send(b"x" * (8 << 20))
    await server.close(1000)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 426),
        ([*UPGRADE], 426),
        ([*UPGRADE, (VERSION[0], b"8")], 426),
        ([*UPGRADE[:2], VERSION], 400),
        ([*UPGRADE, KEY, VERSION], 400),
        ([*UPGRADE[:2], (KEY[0], b"c2hvcnQ="), VERSION], 400),
        ([*UPGRADE[:2], (KEY[0], b"!"), VERSION], 400),
    ],
)
def test_what_is_no_upgrade_is_refused(headers: list[tuple[bytes, bytes]], status: int) -> None:
    with pytest.raises(FaultError) as caught:
        accept(headers)
    assert caught.value.status == status


def test_an_upgrade_is_accepted() -> None:
    assert (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in accept([*UPGRADE, VERSION])
