"""HTTP answers to a client, and the patience that lets it read them."""

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

LINGER = 1.0  # seconds a refused client has to read its answer


class Responder:
    """Answers one client. `extra` is said with everything: what CORS wants, for a topic.

    `head_only` tells that refusals have no body either: the request is a HEAD.
    """

    def __init__(self, stream: trio.abc.Stream, session: Session, pending: Pending) -> None:
        self.extra: Headers = ()
        self.head_only = False
        self._pending = pending
        self._stream = stream
        self._session = session

    @property
    def headers(self) -> Headers:
        """What every answer says, a backend's included."""
        request_id = b"x-request-id", self._session.request_id.encode("ascii")
        return (*self.extra, request_id)

    async def refuse(self, refusal: Refusal) -> None:
        """Give a client its refusal."""
        await self.give(refusal.status, refusal.headers, refusal.body, head_only=self.head_only)

    async def give(
        self,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        head_only: bool = False,
    ) -> None:
        """Give an answer; the connection is of no further use."""
        self._session.status = status
        headers = (*headers, *self.headers)
        with self.waiting():
            with trio.move_on_after(LINGER), contextlib.suppress(*BROKEN):
                await self._stream.send_all(response(status, headers, body, head_only=head_only))
            await self.linger()

    def waiting(self) -> PendingConnection:
        """Count the connection among those that make room for others, for a while."""
        return PendingConnection(self._pending, self._session.peer, self._stream)

    async def linger(self) -> None:
        """Leave the client a moment to read what was sent."""
        with trio.move_on_after(LINGER), contextlib.suppress(*BROKEN):
            await lingering_close(self._stream)
