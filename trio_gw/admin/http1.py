"""HTTP/1.1 for the admin API: reads the requests of one connection and calls an ASGI application.

The application reads the body straight from the connection; nothing is buffered. Until the
application calls `AUTHENTICATED`, a request and its response each have `REQUEST_TIMEOUT` seconds
in total. After that each chunk has its own deadline, so a large upload over a slow line is fine.
If an operation does not read the whole body, the rest is read and discarded before the response,
within bounds: a client that is still sending when the connection closes may never see the response.

An application may answer a request for an upgrade with a WebSocket (`websocket`).
"""

from __future__ import annotations

import contextlib
import http
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

import h11
import trio

from trio_gw.admin import websocket
from trio_gw.admin.json_responses import FaultError
from trio_gw.proxy.tls_handshake import shake_hands
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.secure import SecureStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Scope

    from trio_gw.relay.plain import PlainStream

AUTHENTICATED = "trio_gw.authenticated"  # name of a callback in the ASGI scope

REQUEST_TIMEOUT = 15.0  # seconds for a request, and for its response, before authentication
IDLE = 10.0  # seconds between two requests
BODY_TIMEOUT = 60.0  # seconds without data, after authentication
SEND_TIMEOUT = 30.0  # seconds to send one chunk, after authentication
LINGER = 5.0  # seconds to discard the rest of a request
MAX_DISCARD = 64 << 20  # bytes to discard, at most
MAX_HEAD = 1 << 14  # bytes
CHUNK = 1 << 16  # bytes of one receive
PIECE = 1 << 14  # bytes of one send
CLOSE_TIMEOUT = 1.0  # seconds to close a connection
_VERSIONS = (b"1.0", b"1.1")
# Python has changed these phrases, the reference has not.
_PHRASES = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}


class GoneError(Exception):
    """The client has disconnected or is too slow; contains the explanation."""


class Http1Connection:
    """The server side of one connection. Calls `on_authenticated` when a user is authenticated."""

    def __init__(
        self,
        app: ASGIApp,
        stream: SecureStream | PlainStream,
        peer: str,
        on_authenticated: Callable[[], None],
    ) -> None:
        self._app = app
        self._stream = stream
        self._client = (peer, 0)
        self._scheme = "https" if isinstance(stream, SecureStream) else "http"
        sock: socket.socket = stream.tls if isinstance(stream, SecureStream) else stream.socket
        self._server = sock.getsockname()[:2]
        self._on_authenticated = on_authenticated
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._deadline = trio.current_time() + REQUEST_TIMEOUT  # of the current request or response
        self._authenticated = False
        self._eof = False  # the client has closed its side
        self._timed_out = False  # the client was too slow
        self._no_body = False  # response to HEAD
        self._pending_head = b""  # the head of a response, until its first body chunk

    async def serve(self) -> None:
        """Serve until the end. Raises `GoneError` or one of `BROKEN` if the client ends it."""
        if isinstance(self._stream, SecureStream):
            await shake_hands(self._stream, self._deadline, REQUEST_TIMEOUT)
        while (request := await self._request()) is not None:
            self._no_body = request.method == b"HEAD"
            await self._app(self._scope(request), self.receive, self.send)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                break
            self._http.start_next_cycle()
            if not self._http.trailing_data[0]:
                self._deadline = trio.current_time() + IDLE
                self._authenticated = False
                if not await self._receive_more("the next request"):
                    break
            self._authenticated = False
            self._deadline = trio.current_time() + REQUEST_TIMEOUT
        await self._close()

    # -- the request -----------------------------------------------------------------------

    async def _request(self) -> h11.Request | None:
        """Read the head of a request; None if there is none, or it was refused here."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if not self._http.trailing_data[0]:
                    await self._receive_more("the request")
                elif not await self._receive_more("the head of the request"):
                    raise GoneError("closed the connection inside the head of a request")
            if not isinstance(event, h11.Request):
                return None
            if event.http_version not in _VERSIONS:
                raise FaultError(505, "only HTTP/1.1 is supported")
        except h11.RemoteProtocolError as error:
            await self._refuse(FaultError(error.error_status_hint, f"malformed request: {error}"))
        except FaultError as error:
            await self._refuse(error)
        else:
            return event
        return None

    def _scope(self, request: h11.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii").upper(),
            "scheme": self._scheme,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": self._client,
            "server": self._server,
            "extensions": {
                AUTHENTICATED: self._authenticate,
                websocket.UPGRADE: partial(self._upgrade, request),
            },
        }

    def _authenticate(self) -> None:
        self._authenticated = True
        self._on_authenticated()

    async def _upgrade(self, request: h11.Request) -> websocket.WebSocket:
        """Accept an upgrade; nothing but the WebSocket uses the connection after that.

        Raises `FaultError` for a request that is not one.
        """
        if request.method != b"GET" or request.http_version != b"1.1":
            raise FaultError(400, "a WebSocket is opened with GET and HTTP/1.1")
        headers = websocket.accept(list(request.headers))
        if not isinstance(self._http.next_event(), h11.EndOfMessage):
            raise FaultError(400, "a request for a WebSocket has no body")
        phrase = http.HTTPStatus.SWITCHING_PROTOCOLS.phrase.encode("ascii")
        await self._write(
            self._http.send(
                h11.InformationalResponse(status_code=101, headers=headers, reason=phrase)
            )
        )
        return websocket.WebSocket(self._stream, bytes(self._http.trailing_data[0]))

    async def receive(self) -> Message:
        """Return the next part of the body to the application (ASGI `receive`).

        After the body it waits until the client disconnects, for answers that last for hours.
        Raises `FaultError`: 408 if it takes too long, 400 if it is malformed.
        """
        try:
            while self._http.their_state is h11.SEND_BODY:
                if self._http.they_are_waiting_for_100_continue:
                    with contextlib.suppress(GoneError, *BROKEN):
                        await self._write(self._http.send(_CONTINUE))
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    return {"type": "http.request", "body": bytes(event.data), "more_body": True}
                if isinstance(event, h11.EndOfMessage):
                    return {"type": "http.request", "body": b"", "more_body": False}
                if event is h11.NEED_DATA:
                    await self._receive_more("the body of the request")
        except h11.RemoteProtocolError as error:
            if not self._eof:
                raise FaultError(error.error_status_hint, f"malformed body: {error}") from None
        if self._http.their_state is h11.DONE:
            await self._wait_gone()
        return {"type": "http.disconnect"}

    async def _wait_gone(self) -> None:
        """Wait until the client disconnects. A further request that it sends has to wait."""
        with contextlib.suppress(*BROKEN):
            while not self._eof and not self._http.trailing_data[0]:
                data = await self._stream.receive_some(CHUNK)
                self._eof = not data
                self._http.receive_data(bytes(data))
            if not self._eof:
                await trio.sleep_forever()

    async def _receive_more(self, what: str) -> bool:
        """Receive once. Returns whether there was data; a broken connection counts as the end.

        After a timeout raises `GoneError` if no byte of a request has arrived, otherwise a 408.
        """
        due = trio.current_time() + BODY_TIMEOUT if self._authenticated else self._deadline
        data: bytes | bytearray = b""
        with trio.move_on_at(due) as deadline, contextlib.suppress(*BROKEN):
            data = await self._stream.receive_some(CHUNK)
        if deadline.cancelled_caught:
            self._timed_out = True
            if self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
                raise GoneError(f"{what} took too long")
            raise FaultError(408, f"{what} took too long")
        self._eof = not data
        self._http.receive_data(bytes(data))
        return bool(data)

    # -- the response ----------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Send a response from the application (ASGI `send`)."""
        if message["type"] == "http.response.start":
            await self._discard_body()
            self._deadline = trio.current_time() + REQUEST_TIMEOUT
            self._pending_head = self._head(message["status"], list(message["headers"]))
            return
        out, self._pending_head = self._pending_head, b""
        if (body := message.get("body", b"")) and not self._no_body:
            out += self._http.send(h11.Data(data=body)) or b""
        if not message.get("more_body"):
            out += self._http.send(h11.EndOfMessage()) or b""
        await self._write(out)

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        headers.append((b"date", formatdate(usegmt=True).encode("ascii")))
        if self._http.their_state is not h11.DONE:
            headers.append((b"connection", b"close"))
        phrase = _PHRASES.get(status) or http.HTTPStatus(status).phrase
        answer = h11.Response(status_code=status, headers=headers, reason=phrase.encode("ascii"))
        return self._http.send(answer) or b""

    async def _refuse(self, fault: FaultError) -> None:
        """Respond to a request that does not reach the application."""
        response = fault.response()
        self._deadline = trio.current_time() + REQUEST_TIMEOUT
        out = self._head(response.status_code, list(response.raw_headers))
        out += self._http.send(h11.Data(data=bytes(response.body))) or b""
        await self._write(out + (self._http.send(h11.EndOfMessage()) or b""))

    async def _discard_body(self) -> None:
        """Read and discard the rest of a request, within bounds."""
        if self._timed_out or self._http.they_are_waiting_for_100_continue:
            return
        forgotten = 0
        with trio.move_on_after(LINGER), contextlib.suppress(FaultError):
            while forgotten <= MAX_DISCARD and self._http.their_state is h11.SEND_BODY:
                message = await self.receive()
                forgotten += len(message.get("body", b""))
                if not message.get("more_body"):
                    break

    async def _write(self, data: bytes | None) -> None:
        view = memoryview(data or b"")
        while view:
            now = trio.current_time()
            with trio.move_on_at(
                now + SEND_TIMEOUT if self._authenticated else self._deadline
            ) as deadline:
                await self._stream.send_all(view[:PIECE])
            if deadline.cancelled_caught:
                raise GoneError("the response was not read in time")
            view = view[PIECE:]

    async def _close(self) -> None:
        """Close the connection so that the client can read the last response first."""
        with trio.move_on_after(CLOSE_TIMEOUT), contextlib.suppress(*BROKEN):
            if not self._eof and self._http.their_state in (h11.SEND_BODY, h11.ERROR):
                # Closing with unread data in the socket would reset the connection.
                while await self._receive_raw():
                    pass
        with trio.move_on_after(CLOSE_TIMEOUT), contextlib.suppress(*BROKEN):
            await self._stream.aclose()

    async def _receive_raw(self) -> int:
        if isinstance(self._stream, SecureStream):
            return await self._stream.receive_raw()
        return len(await self._stream.receive_some(CHUNK))


_CONTINUE = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
