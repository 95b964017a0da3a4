"""HTTP responses to a client, and the lingering close that lets the client read them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from trio_gw.proxy.pending_connection import PendingConnection
from trio_gw.relay.lingering_close import BROKEN, lingering_close
from trio_gw.wire.http import response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.errors import Headers, Refusal
    from trio_gw.guard.pending import Pending
    from trio_gw.proxy.sessions import Session

LINGER = 1.0  # seconds a refused client has to read the response


class Responder:
    """Sends responses to one client. `extra` are headers for every response, such as CORS headers.

    With `head_only` refusals have no body: the request is a HEAD.
    """

    def __init__(self, stream: trio.abc.Stream, session: Session, pending: Pending) -> None:
        self.extra: Headers = ()
        self.head_only = False
        self._pending = pending
        self._stream = stream
        self._session = session

    @property
    def headers(self) -> Headers:
        """Headers of every response, including the backend's responses."""
        request_id = b"x-request-id", self._session.request_id.encode("ascii")
        return (*self.extra, request_id)

    async def refuse(self, refusal: Refusal) -> None:
        """Send the response of a refusal."""
        await self.send(refusal.status, refusal.headers, refusal.body, head_only=self.head_only)

    async def send(
        self,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        head_only: bool = False,
    ) -> None:
        """Send a response. The connection cannot be used afterwards."""
        self._session.status = status
        headers = (*headers, *self.headers)
        with self.pending():
            with trio.move_on_after(LINGER), contextlib.suppress(*BROKEN):
                await self._stream.send_all(response(status, headers, body, head_only=head_only))
            await self.linger()

    def pending(self) -> PendingConnection:
        """Count the connection as pending while the context is active."""
        return PendingConnection(self._pending, self._session.peer, self._stream)

    async def linger(self) -> None:
        """Give the client a moment to read the response."""
        with trio.move_on_after(LINGER), contextlib.suppress(*BROKEN):
            await lingering_close(self._stream)
