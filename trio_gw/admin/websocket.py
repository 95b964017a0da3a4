"""WebSockets on a connection of the admin listener (RFC 6455): the server's end of one.

An operation that answers a request for an upgrade with a `WebSocketResponse` gets a `WebSocket`.
`http1` calls `accept`, and hands over the connection. Every wait has a deadline, and what a client
may send is bounded. Messages are text; the portal sends JSON.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import trio
from starlette.responses import Response

from trio_gw.admin.json_responses import FaultError
from trio_gw.errors import CloseCode
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.wire import frames
from trio_gw.wire.frame_reader import FrameReader, WholeFrame
from trio_gw.wire.frames import ViolationError
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Receive, Scope, Send

UPGRADE = "trio_gw.upgrade"  # name of a function in the ASGI scope

MAX_MESSAGE = 3 << 20  # bytes of one message from a client, and of a frame
MAX_PARTS = 1000  # frames of one message
IDLE = 65.0  # seconds without a frame from the client
SEND_TIMEOUT = 30.0  # seconds to send one message
CLOSE_TIMEOUT = 2.0  # seconds to send a Close frame
CHUNK = 1 << 16  # bytes of one receive


class WebSocketClosedError(Exception):
    """The connection is over: the client closed it, broke the protocol, or is too slow."""


def accept(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of the 101 for a request. Raises `FaultError` for an invalid one."""

    def values(wanted: bytes) -> list[bytes]:
        return [value for name, value in headers if name == wanted]

    def has(name: bytes, token: bytes) -> bool:
        parts = b",".join(values(name)).lower().split(b",")
        return token in (part.strip() for part in parts)

    if not (has(b"upgrade", b"websocket") and has(b"connection", b"upgrade")):
        more = {"Upgrade": "websocket"}
        raise FaultError(426, "this is a WebSocket: connect with an upgrade", headers=more)
    if values(b"sec-websocket-version") != [b"13"]:
        more = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        raise FaultError(426, "only version 13 of WebSocket is spoken here", headers=more)
    keys = values(b"sec-websocket-key")
    try:
        good = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        good = False
    if not good:
        raise FaultError(400, "Sec-WebSocket-Key must be one base64 value of 16 bytes")
    return [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(keys[0])),
    ]


class WebSocket:
    """The server's end. One task receives, any number send.

    `stream` is the connection behind the 101, `leftover` what the client has sent since.
    """

    def __init__(self, stream: trio.abc.Stream, leftover: bytes) -> None:
        self._stream = stream
        self._reader = FrameReader(masked=True, keep=MAX_MESSAGE, most=MAX_MESSAGE)
        self._received = self._reader.feed(leftover)
        self._parts: list[bytes] = []  # of the message so far
        self._sending = trio.Lock()
        self._closed = False  # a Close frame was sent

    async def receive(self) -> str:
        """Return the next message. Raises `WebSocketClosedError` when there will be none."""
        try:
            return await self._receive()
        except ViolationError as error:
            violation = error
        except BROKEN as error:
            raise WebSocketClosedError("the connection broke") from error
        await self.close(violation.code, violation.what)
        raise WebSocketClosedError(violation.what)

    async def _receive(self) -> str:
        while True:
            for frame in self._received:
                if (message := await self._take(frame)) is not None:
                    return message
            with trio.move_on_after(IDLE) as idle:
                data = await self._stream.receive_some(CHUNK)
            if idle.cancelled_caught:
                await self.close(CloseCode.GOING_AWAY, f"nothing came for {IDLE:g} s")
                raise WebSocketClosedError("idle")
            if not data:
                raise WebSocketClosedError("hung up")
            self._received = self._reader.feed(bytes(data))

    async def _take(self, frame: WholeFrame) -> str | None:
        """Take a frame; returns the message that it ends, if it ends one."""
        opcode = frame.opcode
        if opcode == frames.CLOSE:
            code, reason = frames.parse_close(frame.payload)
            await self.close(code, "")
            raise WebSocketClosedError(f"closed with {code} {reason[:80]}".rstrip())
        if opcode == frames.PING:
            await self._write(frames.frame(frames.FIN | frames.PONG, frame.payload, masked=False))
        if opcode in (frames.PING, frames.PONG):
            return None
        if opcode == frames.BINARY:
            raise ViolationError("messages are text here", CloseCode.UNSUPPORTED)
        self._parts.append(frame.payload)
        if len(self._parts) > MAX_PARTS or sum(map(len, self._parts)) > MAX_MESSAGE:
            raise ViolationError("the message is too long", CloseCode.TOO_BIG)
        if not frame.fin:
            return None
        data = b"".join(self._parts)
        self._parts.clear()
        try:
            return data.decode()
        except UnicodeDecodeError:
            what = "the message is not UTF-8"
            raise ViolationError(what, CloseCode.INVALID_PAYLOAD) from None

    async def send(self, *messages: bytes) -> None:
        """Send text messages. Raises `WebSocketClosedError` if they cannot be sent in time."""
        if self._closed:
            raise WebSocketClosedError("closed")
        one = partial(frames.data_frame, text=True, masked=False)
        await self._write(b"".join(map(one, messages)))

    async def _write(self, data: bytes) -> None:
        with trio.move_on_after(SEND_TIMEOUT) as deadline:
            async with self._sending:
                try:
                    await self._stream.send_all(data)
                except BROKEN as error:
                    raise WebSocketClosedError("the connection broke") from error
        if deadline.cancelled_caught:
            self._closed = True  # half a frame may have been sent
            raise WebSocketClosedError("the client does not read")

    async def close(self, code: int, reason: str = "") -> None:
        """Send a Close frame, if that takes no more than a moment. Never raises."""
        if self._closed:
            return
        self._closed = True
        with trio.move_on_after(CLOSE_TIMEOUT), contextlib.suppress(*BROKEN):
            async with self._sending:
                await self._stream.send_all(frames.close_frame(code, reason, masked=False))


class WebSocketResponse(Response):
    """The answer of an operation to an upgrade: accepts it, and runs the conversation."""

    def __init__(self, converse: Callable[[WebSocket], Awaitable[None]]) -> None:
        super().__init__()
        self._converse = converse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept, converse, close. A request that is no upgrade gets an error response."""
        try:
            upgrade: Callable[[], Awaitable[WebSocket]] = scope["extensions"][UPGRADE]
            socket = await upgrade()
        except FaultError as fault:
            await fault.response()(scope, receive, send)
            return
        try:
            await self._converse(socket)
        finally:
            with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await socket.close(CloseCode.NORMAL)
