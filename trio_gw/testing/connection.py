"""One WebSocket connection of a test: a client's, or one that reached the backend."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from trio_websocket import ConnectionClosed

from trio_gw.testing.arrivals import Arrivals, EndOfArrivalsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio_websocket import WebSocketConnection

MAX_MESSAGE = 64 * 1024 * 1024  # bytes
TIMEOUT = 10.0  # seconds that a test waits for what must happen

Message = str | bytes
Headers = tuple[tuple[str, str], ...]


class Closed(NamedTuple):
    """The Close frame that ended a connection. Without one, `code` is 1006."""

    code: int
    reason: str


_ABNORMAL = Closed(1006, "")


class ClosedError(Exception):
    """The other side has closed the connection."""

    def __init__(self, closed: Closed) -> None:
        self.code = closed.code
        self.reason = closed.reason
        super().__init__(f"closed with {closed.code} {closed.reason}".rstrip())


class HandshakeRefusedError(Exception):
    """The gateway has answered a handshake with an HTTP error."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        super().__init__(f"refused with {status}: {body.decode(errors='replace').strip()}")

    def json(self) -> dict[str, Any]:
        """Decode the body of the response."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class RecordingConnection:
    """A WebSocket connection; made by `ServedGateway.connect` and by `RecordingBackend.accept`.

    `path` is the path and query of the handshake, `headers` are those that the other side sent:
    for a client the response's, for a backend the request's. `timeout` in seconds is the longest
    time that `receive` and `wait_closed` wait.
    """

    def __init__(
        self,
        websocket: WebSocketConnection,
        *,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        timeout: float = TIMEOUT,
    ) -> None:
        self.path = path
        self.headers: Headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers
        )
        self._websocket = websocket
        self._messages: Arrivals[Message] = Arrivals("message", timeout)

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides agreed on."""
        return self._websocket.subprotocol

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages that have arrived so far, whether or not `receive` has returned them."""
        return self._messages.all()

    @property
    def closed(self) -> Closed | None:
        """How the connection ended; None while it is open."""
        reason = self._websocket.closed
        if reason is None:
            return _ABNORMAL if self._messages.ended else None
        return Closed(reason.code, reason.reason or "")

    def header(self, name: str) -> str | None:
        """Return the value of a header; of several, joined with commas."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    async def send(self, message: Message) -> None:
        """Send a text or binary message. Raises `ClosedError`."""
        try:
            await self._websocket.send_message(message)
        except ConnectionClosed:
            raise ClosedError(self.closed or _ABNORMAL) from None

    async def receive(self) -> Message:
        """Return the next message. Raises `ClosedError`, and `trio.TooSlowError` after `timeout`.

        Messages that arrived before the end are returned first.
        """
        try:
            return await self._messages.take()
        except EndOfArrivalsError:
            raise ClosedError(self.closed or _ABNORMAL) from None

    async def wait_closed(self) -> Closed:
        """Wait until the other side closes the connection, and return how."""
        await self._messages.wait_ended()
        return self.closed or _ABNORMAL

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""
        await self._websocket.aclose(code, reason)

    async def collect(self, received: Callable[[Message], Awaitable[None]] | None = None) -> None:
        """Collect messages until the connection ends. Called by what makes connections.

        `received` is called with each message after it was collected.
        """
        try:
            while True:
                message = await self._websocket.get_message()
                self._messages.put(message)
                if received is not None:
                    await received(message)
        except ConnectionClosed:
            pass
        finally:
            self._messages.end()
