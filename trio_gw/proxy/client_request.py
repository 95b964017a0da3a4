"""Reads what a client sends before the route is known: TLS handshake, request head, maybe a body.

Each has a timeout (`timeouts.head`). If the client disconnects, `ClientGoneError` is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.proxy import refusals
from trio_gw.proxy.client_disconnect import ClientGoneError
from trio_gw.proxy.pending_connection import PendingConnection
from trio_gw.proxy.tls_handshake import TlsHandshakeError, alerted, shake_hands
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.plain import PlainStream, receive, receive_now
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.waits import Woken
from trio_gw.wire.exchange import RequestBody
from trio_gw.wire.http import RequestReader

if TYPE_CHECKING:
    from trio_gw.proxy.services import Services
    from trio_gw.proxy.sessions import Session
    from trio_gw.wire.head import RequestHead


class ClientRequest:
    """The request of one connection. With `tls` a TLS handshake comes first."""

    __slots__ = ("_reader", "_services", "_session", "_stream", "_tls")

    def __init__(
        self, services: Services, session: Session, stream: trio.abc.Stream, *, tls: bool
    ) -> None:
        self._services = services
        self._session = session
        self._stream = stream
        self._tls = tls
        self._reader = RequestReader(services.limiter_factory.bounds)

    @property
    def leftover(self) -> bytes:
        """Bytes received after the head: the client's first frames."""
        return self._reader.leftover

    @property
    def port(self) -> int:
        """The listener's port; 0 if it is unknown because the socket is closed."""
        stream = self._stream
        try:
            if isinstance(stream, PlainStream):
                return int(stream.socket.getsockname()[1])
            assert isinstance(stream, SecureStream)
            return int(stream.tls.getsockname()[1])
        except OSError:  # the client has disconnected
            return 0

    def plain_body(self, head: RequestHead) -> RequestBody:
        """Check a request that may be proxied as plain HTTP. Returns its body, not yet read.

        Raises `Refusal`, as `RequestBody` does.
        """
        return RequestBody(head, self._reader)

    async def head(self) -> RequestHead:
        """Do the TLS handshake and read the request head, both under one deadline."""
        try:
            data = receive_now(self._stream)
        except BROKEN as error:
            raise ClientGoneError from error
        # Usually the head has already arrived, so there is no need to wait.
        if data and (head := self._reader.feed(data)) is not None:
            return head
        with PendingConnection(self._services.pending, self._session.peer, self._stream) as waiting:
            return await self._wait_for_head(waiting)

    async def _wait_for_head(self, waiting: PendingConnection) -> RequestHead:
        seconds = self._services.settings.timeouts.head
        if isinstance(self._stream, PlainStream):
            due = trio.current_time() + seconds
            while (data := await self._receive_by(self._stream, due)) is not None:
                if (head := self._reader.feed(data)) is not None:
                    return head
            raise refusals.too_slow("head", seconds)
        due, sent = trio.current_time() + seconds, b""
        if self._tls:
            sent = await self._shake_hands(due, seconds, waiting)
        with trio.move_on_at(due):
            while True:
                try:
                    data = await receive(self._stream)
                except BROKEN as error:
                    if sent and (why := alerted(error, sent)) is not None:
                        self._services.tls_failures.note("https", self._session.peer, why)
                    raise ClientGoneError from error
                if not data:
                    raise ClientGoneError
                sent = b""
                if (head := self._reader.feed(data)) is not None:
                    return head
        raise refusals.too_slow("head", seconds)

    async def _shake_hands(self, due: float, seconds: float, waiting: PendingConnection) -> bytes:
        """Do the TLS handshake. Returns the first bytes that the client sent."""
        assert isinstance(self._stream, SecureStream)
        services, session = self._services, self._session
        try:
            sent = await shake_hands(self._stream, due, seconds)
        except TlsHandshakeError as error:
            if not waiting.ended:
                services.tls_failures.note("https", session.peer, error)
            raise ClientGoneError from error
        except BROKEN as error:
            raise ClientGoneError from error
        session.certificate = services.tls.identify(self._stream.tls)
        return sent

    async def body(self) -> bytes:
        """Read the body that the head announces, within the limits of time and size."""
        seconds = self._services.settings.timeouts.head
        waiting = PendingConnection(self._services.pending, self._session.peer, self._stream)
        with waiting, trio.move_on_after(seconds):
            body = self._reader.feed_body(self._reader.leftover)
            while body is None:
                body = self._reader.feed_body(await self._receive())
            return body
        raise refusals.too_slow("body", seconds)

    async def _receive_by(self, stream: PlainStream, due: float) -> bytes | None:
        """Receive data; returns None if nothing arrives before `due` (Trio's clock)."""
        while True:
            woken = await self._services.waits.readable(stream.socket.fileno(), due)
            try:
                data = stream.receive_now()
            except BROKEN as error:
                raise ClientGoneError from error
            if data:
                return data
            if data is not None:
                raise ClientGoneError
            if woken is Woken.TIMED_OUT:
                return None

    async def _receive(self) -> bytes:
        try:
            data = await receive(self._stream)
        except BROKEN as error:
            raise ClientGoneError from error
        if not data:
            raise ClientGoneError
        return data
