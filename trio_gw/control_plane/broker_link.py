"""One connection to a broker: dial, TLS, handshake, heartbeats, deliveries, acknowledgements.

Three tasks share the connection: one reads, one writes, one processes messages in order. Messages
are acknowledged after they are processed, several at once. What waits is bounded: by the prefetch
limit, and for brokers that ignore it by not reading on. A link whose broker is silent for two and
a half intervals of its heartbeat has failed (spec: control-plane §14).
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from trio_gw.wire.amqp import AmqpConnection, AmqpReady
from trio_gw.wire.amqp_frames import AmqpDiscarded, AmqpError, AmqpMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio_gw.config.broker_url import BrokerEndpoint

    _Task = Callable[[], Awaitable[None]]

DIAL = 10.0  # seconds, from the name of the host to the consumed queue
HEARTBEAT = 10  # seconds
PREFETCH = 500  # messages that are not acknowledged
WAITING = 16 << 20  # octets of messages that wait
_SILENT = 2.5  # intervals of the heartbeat
_SEND = 30.0  # seconds that a broker without heartbeats may take to read
_CLOSE = 1.0
_CHUNK = 65536
_TURN = 4  # messages decoded in one pass of the event loop
_ACK_AFTER = 50  # processed messages
_ACK_SECONDS = 0.1
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_FAULTS = (AmqpError, OSError, trio.BrokenResourceError, trio.TooSlowError, UnicodeError)


class LinkError(Exception):
    """The connection failed or was lost. The text says why, without credentials."""


class _SilentError(OSError):
    """The broker neither sends nor reads."""


class LinkHandler(Protocol):
    """What a link calls. Both coroutines are cancelled when the connection is lost."""

    async def ready(self) -> None:
        """Run before the first message, when the queue is consumed."""

    async def process(self, message: AmqpMessage) -> None:
        """Process a message. It is acknowledged afterwards."""

    def discarded(self, message: AmqpDiscarded) -> None:
        """Note a message that is too large."""


async def run_link(
    endpoint: BrokerEndpoint,
    tls: ssl.SSLContext | None,
    keys: Sequence[str],
    handler: LinkHandler,
    *,
    heartbeat: int = HEARTBEAT,
    prefetch: int = PREFETCH,
) -> NoReturn:
    """Connect to a broker and process its messages until the connection fails.

    Raises LinkError. If it is cancelled, it closes the connection in an orderly way, within a
    second.
    """
    login = (endpoint.user, endpoint.password, endpoint.vhost)
    name = f"trio-gw {socket.gethostname()}"
    amqp = AmqpConnection(*login, keys, heartbeat=heartbeat, prefetch=prefetch, name=name)
    try:
        with trio.fail_after(DIAL) as dialling:
            tcp = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            link = _Link(tcp, amqp, handler, prefetch)
            try:
                for option in _KEEPALIVE:
                    tcp.setsockopt(*option)
                if endpoint.tls:
                    assert tls is not None
                    await link.secure(tls, endpoint.host)
                await link.shake_hands()
                dialling.deadline = math.inf
                await link.run()
            finally:
                await link.end()  # noqa: ASYNC102 - shields itself
    except _FAULTS as error:
        raise LinkError(_reason(error)) from None
    raise AssertionError("a link ends with an exception")


class _Link:
    def __init__(
        self, tcp: trio.SocketStream, amqp: AmqpConnection, handler: LinkHandler, prefetch: int
    ) -> None:
        self._stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = tcp
        self._amqp = amqp
        self._handler = handler
        self._prefetch = prefetch
        self._ready = False
        self._waiting: deque[AmqpMessage | AmqpDiscarded] = deque()
        self._octets = 0  # of what waits
        self._arrived = trio.Event()
        self._taken = trio.Event()
        self._to_send = trio.Event()
        self._usable = True  # the stream can still be written
        self._fault: Exception | None = None

    async def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Start TLS."""
        assert isinstance(self._stream, trio.SocketStream)
        stream = trio.SSLStream(self._stream, tls, server_hostname=host, https_compatible=True)
        self._stream = stream
        self._usable = False
        await stream.do_handshake()
        self._usable = True

    async def shake_hands(self) -> None:
        """Log in, declare and bind the queue, and consume it."""
        await self._send()
        while not self._ready:
            await self._receive()
            await self._send()

    async def run(self) -> NoReturn:
        """Process messages until the connection fails; raises its fault."""
        async with trio.open_nursery() as nursery:
            for task in (self._read, self._write, self._process):
                nursery.start_soon(self._until_fault, task, nursery.cancel_scope)
        assert self._fault is not None
        raise self._fault

    async def end(self) -> None:
        """Close the connection: orderly if that takes at most a second, otherwise at once."""
        with trio.move_on_after(_CLOSE, shield=True), contextlib.suppress(*_FAULTS):
            if self._usable:
                if self._amqp.opened:
                    self._amqp.close()
                await self._send()
                while self._amqp.opened:
                    await self._receive()
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    async def _until_fault(self, task: _Task, scope: trio.CancelScope) -> None:
        try:
            await task()
        except _FAULTS as error:
            # Those of the protocol leave a stream on which the close can be sent.
            self._usable = self._usable and isinstance(error, AmqpError)
            self._fault = self._fault or error
            scope.cancel()

    async def _read(self) -> None:
        while True:
            while len(self._waiting) > self._prefetch or self._octets > WAITING:
                self._taken = trio.Event()
                await self._taken.wait()
            silence = self._amqp.heartbeat * _SILENT or math.inf
            with trio.move_on_after(silence) as scope:
                await self._receive()
            if scope.cancelled_caught:
                raise _SilentError(f"no heartbeat for {silence:g} s")

    async def _write(self) -> None:
        interval = self._amqp.heartbeat / 2 or math.inf
        while True:
            with trio.move_on_after(interval):
                await self._to_send.wait()
            self._to_send = trio.Event()
            with trio.move_on_after(self._amqp.heartbeat * _SILENT or _SEND) as scope:
                if not await self._send():
                    self._amqp.beat()
                    await self._send()
            if scope.cancelled_caught:
                raise _SilentError("it does not read what is sent")

    async def _process(self) -> None:
        await self._handler.ready()
        since, processed = trio.current_time(), 0
        while True:
            while not self._waiting:
                self._arrived = trio.Event()
                await self._arrived.wait()
            message = self._waiting.popleft()
            if isinstance(message, AmqpMessage):
                self._octets -= len(message.body)
                await self._handler.process(message)
            else:
                self._handler.discarded(message)
            self._taken.set()
            processed += 1
            now = trio.current_time()
            if not self._waiting or processed >= _ACK_AFTER or now - since >= _ACK_SECONDS:
                self._amqp.acknowledge(message.tag)
                self._to_send.set()
                since, processed = now, 0
            await trio.lowlevel.checkpoint()

    async def _receive(self) -> None:
        """Read once, and put what arrived where it is processed."""
        data = await self._stream.receive_some(_CHUNK)
        if not data:
            self._usable = False
            raise self._amqp.end()
        self._amqp.feed(bytes(data))
        decoded = 0
        while (event := self._amqp.next_event()) is not None:
            if isinstance(event, AmqpReady):
                self._ready = True
                continue
            self._waiting.append(event)
            self._octets += len(event.body) if isinstance(event, AmqpMessage) else 0
            self._arrived.set()
            decoded += 1
            if decoded % _TURN == 0:  # a chunk has up to a hundred: connections wait meanwhile
                await trio.lowlevel.checkpoint()

    async def _send(self) -> bool:
        """Send what is queued; return whether there was anything."""
        data = self._amqp.data_to_send()
        if data:
            self._usable = False
            await self._stream.send_all(data)
            self._usable = True
        return bool(data)


def _reason(error: BaseException) -> str:
    """Return why a connection failed, for logs: without user and password."""
    if isinstance(error, AmqpError):
        if error.refused:
            return f"it refuses user or password, see `control_plane.events`: {error}"
        return str(error)
    if isinstance(error, trio.TooSlowError):
        return f"it did not answer within {DIAL:g} s"
    if isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
        error = error.__cause__
    while isinstance(error, OSError) and error.errno is None and error.__cause__ is not None:
        error = error.__cause__  # of a dial that tried several addresses
    if isinstance(error, BaseExceptionGroup):
        return _reason(error.exceptions[0])
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        return f"its certificate is not trusted: {why}; `control_plane.ca` names authorities"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
