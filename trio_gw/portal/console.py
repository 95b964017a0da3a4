"""The server end of the try-out console: `GET /portal/try`, a WebSocket. spec: portal §3.

One page has one attempt at a time. When the page leaves, the attempt ends.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.admin.websocket import WebSocketClosedError, WebSocketResponse
from trio_gw.errors import CloseCode
from trio_gw.portal import console_page
from trio_gw.portal.attempt import Attempt
from trio_gw.portal.attempt_request import Credentials, RequestFaultError, build
from trio_gw.portal.console_messages import (
    AliveRequest,
    CloseFrameRequest,
    ConnectRequest,
    MoreRequest,
    NoticeEvent,
    PageRequest,
    PingRequest,
    SendRequest,
)
from trio_gw.portal.outbox import PageOutbox
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.wire import frames

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.admin.websocket import WebSocket
    from trio_gw.portal.request import PortalRequest

LIFETIME = 3600.0  # seconds
CHECK = 5.0  # seconds between two looks at whether the user has logged out
MAX_SEND = 1 << 20  # octets of one message
MAX_CONTROL = frames.MAX_CONTROL


async def try_out(request: PortalRequest) -> Response:
    """Open the console's WebSocket."""
    return WebSocketResponse(partial(_converse, request))


async def _converse(request: PortalRequest, socket: WebSocket) -> None:
    """Serve one page until it leaves or its user logs out, for an hour at most."""
    outbox, left = PageOutbox(), False
    with trio.move_on_after(LIFETIME) as lifetime:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outbox.run, socket)
                nursery.start_soon(_end_with_session, request, socket, nursery.cancel_scope)
                await _ConsolePage(request, socket, outbox).run()
                nursery.cancel_scope.cancel()
        except* WebSocketClosedError:
            left = True
    if lifetime.cancelled_caught and not left:
        await socket.close(CloseCode.GOING_AWAY, "open for an hour")


async def _end_with_session(
    request: PortalRequest, socket: WebSocket, scope: trio.CancelScope
) -> None:
    """End the console when its user logs out: it mints test keys for that user."""
    # A log-out may be in another worker, which sets no event here.
    while not await request.services.sessions.has_ended(request.caller):  # noqa: ASYNC110
        await trio.sleep(CHECK)
    await socket.close(CloseCode.POLICY, "logged out")
    scope.cancel()


class _ConsolePage:
    """What one page asks for, one message after the other."""

    def __init__(self, request: PortalRequest, socket: WebSocket, outbox: PageOutbox) -> None:
        services = request.services
        self._credentials = Credentials(
            *(services.testkeys, services.services.live, services.services.topic_policies),
            user=request.caller.user,
        )
        self._make = partial(
            Attempt, services.front_door, services.services.sessions, request.address, outbox
        )
        self._socket = socket
        self._outbox = outbox
        self._attempt: Attempt | None = None

    async def run(self) -> None:
        """Serve until the page leaves."""
        async with trio.open_nursery() as attempts:
            try:
                while not self._outbox.overflown:
                    text = await self._socket.receive()
                    try:
                        asked = msgspec.json.decode(text, type=PageRequest)
                    except (msgspec.DecodeError, ValueError, RecursionError) as error:
                        self._outbox.tell(NoticeEvent(f"not understood: {str(error)[:200]}"))
                        continue
                    self._do(asked, attempts)
            except WebSocketClosedError:
                pass
            finally:
                if self._attempt is not None:
                    self._attempt.hang_up()

    def _do(self, asked: PageRequest, attempts: trio.Nursery) -> None:
        match asked:
            case AliveRequest():
                pass
            case ConnectRequest():
                self._connect(asked, attempts)
            case _ if self._attempt is None:
                self._outbox.tell(NoticeEvent("nothing is connected"))
            case SendRequest():
                self._send(self._attempt, asked)
            case PingRequest():
                payload = asked.text.encode()
                if len(payload) > MAX_CONTROL:
                    self._outbox.tell(NoticeEvent(f"a Ping holds {MAX_CONTROL} bytes at most"))
                else:
                    self._attempt.ping(payload)
            case CloseFrameRequest():
                self._close(self._attempt, asked)
            case MoreRequest():
                self._attempt.more(asked.n)

    def _connect(self, asked: ConnectRequest, attempts: trio.Nursery) -> None:
        if self._attempt is not None and not self._attempt.over:
            self._outbox.tell(NoticeEvent("an attempt is under way; close it first"))
            return
        try:
            request = build(asked, self._credentials)
        except RequestFaultError as error:
            self._outbox.tell(NoticeEvent(str(error)))
            return
        self._attempt = self._make()
        attempts.start_soon(self._attempt.run, request)

    def _send(self, attempt: Attempt, asked: SendRequest) -> None:
        text, octets = asked.text, asked.base64
        if (text is msgspec.UNSET) is (octets is msgspec.UNSET):
            self._outbox.tell(NoticeEvent("a message is either text or base64"))
            return
        if isinstance(text, str):
            payload, opcode = text.encode("utf-8", "replace"), frames.TEXT
        else:
            assert isinstance(octets, bytes)
            payload, opcode = octets, frames.BINARY
        if len(payload) > MAX_SEND:
            self._outbox.tell(NoticeEvent(f"a message holds {MAX_SEND >> 20} MiB at most here"))
            return
        attempt.send(_split(payload, opcode, asked.fragments))

    def _close(self, attempt: Attempt, asked: CloseFrameRequest) -> None:
        try:
            reason = asked.reason.encode()
            if asked.code != CloseCode.NO_STATUS:
                frames.parse_close(asked.code.to_bytes(2, "big") + reason)
            if len(reason) > frames.MAX_REASON:
                raise frames.ViolationError(f"a reason holds {frames.MAX_REASON} bytes at most")
        except (frames.ViolationError, OverflowError) as error:
            self._outbox.tell(NoticeEvent(f"not closed: {error}"))
            return
        attempt.close(asked.code, asked.reason)


def _split(payload: bytes, opcode: int, count: int) -> list[tuple[int, bytes]]:
    """Split a message into frames of about equal size."""
    step = -(-len(payload) // count) or 1
    parts = [payload[at : at + step] for at in range(0, len(payload), step)] or [b""]
    firsts = [opcode] + [frames.CONTINUATION] * (len(parts) - 1)
    firsts[-1] |= frames.FIN
    return list(zip(firsts, parts, strict=True))


ROUTES = (
    PortalRoute("GET", "/try", Role.CONSUMER, try_out, Kind.WEBSOCKET),
    *console_page.ROUTES,
)
