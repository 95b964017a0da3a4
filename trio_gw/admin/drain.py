"""Requests that are answered before all of their body has come.

The server puts what it reads into a short queue; nobody reading it, the connection would be
stuck for good. And a client that still sends when the connection is closed may never see the
answer. So what the operation leaves unread is read here and forgotten, within bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from starlette.types import Message

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LINGER = 5.0  # seconds that an answer waits for the rest of the request
LEFTOVER = 64 << 20  # bytes of it at most


class Drained:
    """An ASGI application whose requests are read to their end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.forget()
            await send(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.pump)
            await self._app(scope, body.receive, answer)
            nursery.cancel_scope.cancel()


class _Body:
    """One request's messages, passed on until nobody wants them any more."""

    def __init__(self, source: Receive) -> None:
        self._source = source
        self._send, self._receive = trio.open_memory_channel[Message](0)
        self._passing = trio.CancelScope()
        self._forgotten = 0
        self._over = trio.Event()

    async def receive(self) -> Message:
        """Give the next message to the application."""
        return await self._receive.receive()

    async def pump(self) -> None:
        """Pass messages on; after `forget` drop them."""
        with self._passing:
            while True:
                message = await self._source()
                self._note(message)
                await self._send.send(message)
        while True:
            self._note(await self._source())

    async def forget(self) -> None:
        """Return when the request has come to its end, or has been waited for long enough."""
        self._passing.cancel()
        with trio.move_on_after(LINGER):
            await self._over.wait()

    def _note(self, message: Message) -> None:
        if self._passing.cancel_called:
            self._forgotten += len(message.get("body", b""))
        gone = message["type"] == "http.disconnect"
        if gone or not message.get("more_body") or self._forgotten > LEFTOVER:
            self._over.set()
