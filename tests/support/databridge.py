"""A Traffic Manager's event receiver: a TLS login socket and a TCP event socket, with faults.

It decodes by the description of the protocol (spec: control-plane §8.1), with code of its own.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT = "org.wso2.carbon.databridge.commons.exception.SessionTimeoutException"
REFUSED = "org.wso2.carbon.databridge.commons.exception.AuthenticationException"
FIELDS = (
    *("messageID", "appKey", "appTier", "apiKey", "apiTier", "subscriptionKey"),
    *("subscriptionTier", "resourceKey", "resourceTier", "userId", "apiContext", "apiVersion"),
    *("appTenant", "apiTenant", "appId", "apiName", "properties"),
)


def integer(data: bytes, at: int) -> int:
    """Read a big-endian int32."""
    return int.from_bytes(data[at : at + 4], "big", signed=True)


def text(data: bytes, at: int) -> tuple[str, int]:
    """Read a text with its length; returns it, and where it ends."""
    end = at + 4 + integer(data, at)
    assert end <= len(data), "a text is longer than its message"
    return data[at + 4 : end].decode(), end


def decode_login(body: bytes) -> tuple[str, str]:
    """Take a login apart into user and password."""
    user, password = integer(body, 0), integer(body, 4)
    assert len(body) == 8 + user + password
    return body[8 : 8 + user].decode(), body[8 + user :].decode()


def decode_event(data: bytes) -> dict[str, str]:
    """Take one event apart, with `stream` and `timestamp` beside its 17 attributes."""
    timestamp = int.from_bytes(data[:8], "big", signed=True)
    stream, at = text(data, 8)
    values = []
    while at < len(data):
        value, at = text(data, at)
        values.append(value)
    assert len(values) == len(FIELDS), values
    return dict(zip(FIELDS, values, strict=True)) | {"stream": stream, "timestamp": str(timestamp)}


def decode_batch(body: bytes) -> tuple[str, list[dict[str, str]]]:
    """Take a batch apart: the session, and the events."""
    session, at = text(body, 0)
    count, at = integer(body, at), at + 4
    events = []
    for _ in range(count):
        end = at + 4 + integer(body, at)
        events.append(decode_event(body[at + 4 : end]))
        at = end
    assert at == len(body), "bytes follow the last event"
    return session, events


class Sink:
    """A running receiver. What it got is in `events`; its faults are attributes.

    `refuse` refuses logins; `drop_sessions` answers so many batches with a session timeout;
    `reply` is sent instead of OK; `stopped` (until set to a new event that is set) stops reading;
    `close_after` closes so many event connections after reading a batch.
    """

    def __init__(self, username: str = "admin", password: str = "admin") -> None:  # noqa: S107 - the default
        self.credentials = username, password
        self.events: list[dict[str, str]] = []
        self.batches: list[int] = []
        self.logins: list[tuple[str, str]] = []
        self.sessions: set[str] = set()
        self.connections = 0  # event connections accepted
        self.refuse = False
        self.drop_sessions = 0
        self.reply: bytes | None = None
        self.close_after = 0
        self.reading = trio.Event()
        self.reading.set()
        self.port = self.login_port = 0
        self._changed = trio.Condition()
        self._streams: set[trio.abc.Stream] = set()

    @property
    def publish(self) -> str:
        """The URL of the event socket."""
        return f"tcp://localhost:{self.port}"

    @property
    def login(self) -> str:
        """The URL of the login socket."""
        return f"ssl://localhost:{self.login_port}"

    async def wait(self, what: Any) -> None:
        """Wait until `what(self)` is true, for 20 seconds at most."""
        with trio.fail_after(20):
            async with self._changed:
                while not what(self):
                    await self._changed.wait()

    async def wait_events(self, count: int) -> list[dict[str, str]]:
        """Wait for so many events in all."""
        await self.wait(lambda sink: len(sink.events) >= count)
        return self.events

    def sizes(self) -> list[int]:
        """Return `messageSize` of all events."""
        return [json.loads(event["properties"])["messageSize"] for event in self.events]

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _message(self, stream: trio.abc.Stream) -> tuple[int, bytes] | None:
        head = await self._exactly(stream, 5)
        if head is None:
            return None
        body = await self._exactly(stream, integer(head, 1))
        return None if body is None else (head[0], body)

    async def _exactly(self, stream: trio.abc.Stream, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            await self.reading.wait()
            try:
                more = await stream.receive_some(size - len(data))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not more:
                return None
            data += more
        return bytes(data)

    async def serve_login(self, stream: trio.abc.Stream) -> None:
        """Answer logins and logouts on one TLS connection."""
        async with self._held(stream):
            while (message := await self._message(stream)) is not None:
                kind, body = message
                if kind == 1:
                    self.sessions.discard(text(body, 0)[0])
                    await stream.send_all(b"\x00")
                else:
                    assert kind == 0
                    self.logins.append(decode_login(body))
                    await stream.send_all(self._answer_login())
                await self._notify()

    def _answer_login(self) -> bytes:
        if self.refuse or self.logins[-1] != self.credentials:
            return error(REFUSED, "wrong username or password")
        session = secrets.token_hex(8)
        self.sessions.add(session)
        return b"\x02" + len(session).to_bytes(4, "big") + session.encode()

    async def serve_events(self, stream: trio.abc.Stream) -> None:
        """Take batches on one connection, and answer each."""
        self.connections += 1
        await self._notify()
        async with self._held(stream):
            while (message := await self._message(stream)) is not None:
                kind, body = message
                assert kind == 2
                session, events = decode_batch(body)
                if self.close_after:
                    self.close_after -= 1
                    return
                if self.drop_sessions:
                    self.drop_sessions -= 1
                    self.sessions.discard(session)
                if session not in self.sessions:
                    await stream.send_all(error(TIMEOUT, "no such session"))
                    continue
                self.events += events
                self.batches.append(len(events))
                await self._notify()
                await stream.send_all(b"\x00" if self.reply is None else self.reply)

    @contextlib.asynccontextmanager
    async def _held(self, stream: trio.abc.Stream) -> AsyncIterator[None]:
        self._streams.add(stream)
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                yield
        finally:
            self._streams.discard(stream)
            await trio.aclose_forcefully(stream)

    async def disconnect(self) -> None:
        """Close all connections."""
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    async def run(
        self,
        context: ssl.SSLContext,
        ports: tuple[int, int] = (0, 0),
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled, on these ports for events and logins."""
        events, logins = [
            (await trio.open_tcp_listeners(port, host="127.0.0.1"))[0] for port in ports
        ]
        self.port = events.socket.getsockname()[1]
        self.login_port = logins.socket.getsockname()[1]

        async def login(stream: trio.SocketStream) -> None:
            secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError):
                await self.serve_login(secure)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self.serve_events, [events])
            nursery.start_soon(trio.serve_listeners, login, [logins])
            task_status.started()


def error(kind: str, message: str) -> bytes:
    """Write an error reply."""
    one, two = kind.encode(), message.encode()
    return b"\x01" + len(one).to_bytes(4, "big") + len(two).to_bytes(4, "big") + one + two
