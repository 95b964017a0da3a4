"""Hypercorn's Trio worker for the connections of the admin listener.

With `http2` the one room that knows it. The sockets are bound and accepted from like those of
the traffic; here begins what happens to one connection: TLS, with the certificate that is good at
that moment, then HTTP/2 or HTTP/1.1.
"""

from __future__ import annotations

import http
import logging
import re
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from trio_gw.admin.http2 import Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from hypercorn.typing import ASGIFramework
    from starlette.types import ASGIApp

    from trio_gw.relay.plain import PlainStream

log = logging.getLogger("trio_gw.admin")

MAX_CONNECTIONS = 256
HANDSHAKE = 10.0  # seconds for TLS
IDLE = 10.0  # seconds until the first request, and between two
SILENCE = 60  # seconds without a byte while a request is read or answered
SENDING = 30.0  # seconds for one piece of an answer

_HEAD = re.compile(rb"HTTP/1\.1 ([0-9]{3}) \r\n")
# Python's names for these have changed, the reference's have not.
_PHRASES = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}


class _Stream:
    """One TLS connection, as the server wants it.

    Two things are mended on the way. Over HTTP/1.1 the server sends status lines without a
    reason phrase, which apictl prints; it is put in. And it sends its answers shielded from
    cancellation, so that a client that does not read could hold up the gateway's end: `let_go`
    ends that.
    """

    def __init__(self, stream: trio.SSLStream[PlainStream]) -> None:
        self.transport_stream = stream.transport_stream
        self._stream = stream
        self._sending: trio.CancelScope | None = None
        self._gone = False

    async def do_handshake(self) -> None:
        await self._stream.do_handshake()

    def selected_alpn_protocol(self) -> str | None:
        chosen: str | None = self._stream.selected_alpn_protocol()
        return chosen

    async def receive_some(self, most: int) -> bytes | bytearray:
        return await self._stream.receive_some(most)

    async def send_all(self, data: bytes) -> None:
        if self.selected_alpn_protocol() != "h2":
            data = phrased(data)
        if self._gone:
            raise trio.BrokenResourceError
        with trio.move_on_after(SENDING) as self._sending:
            await self._stream.send_all(data)
        if self._sending.cancelled_caught:
            raise trio.BrokenResourceError

    def let_go(self) -> None:
        self._gone = True
        if self._sending is not None:
            self._sending.cancel()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Server:
    """Serves the application over connections that somebody else accepts.

    `context` gives the TLS context for the next connection, with both protocols offered.
    """

    def __init__(self, app: ASGIApp, context: Callable[[], ssl.SSLContext]) -> None:
        self._app = ASGIWrapper(cast("ASGIFramework", app))
        self._tls = context
        self._open = 0
        config = self._config = Config()
        config.accesslog = None
        config.errorlog = log
        config.include_server_header = False
        config.ssl_handshake_timeout = HANDSHAKE
        config.keep_alive_timeout = IDLE
        config.read_timeout = SILENCE
        config.h2_max_concurrent_streams = 8
        config.max_app_queue_size = 2  # pieces of a body that wait to be read
        config.h2_max_header_list_size = 1 << 14
        config.h11_max_incomplete_size = 1 << 14

    async def handle(self, stream: PlainStream, peer: str) -> None:
        """Serve one connection to its end. Never raises but for cancellation."""
        if self._open >= MAX_CONNECTIONS:
            log.warning("%s: more than %d connections, closed", peer, MAX_CONNECTIONS)
            await trio.aclose_forcefully(stream)
            return
        secure = trio.SSLStream(stream, self._tls(), server_side=True, https_compatible=True)
        wrapped = _Stream(secure)
        self._open += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_release, wrapped)
                state = ConnectionState({})
                # It asks no more of the stream than is there.
                stand_in = cast("trio.SSLStream[trio.SocketStream]", wrapped)
                connection = Connection(
                    self._app, self._config, WorkerContext(None), state, stand_in
                )
                await connection.run()
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("%s: the connection failed", peer)
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)


async def _release(stream: _Stream) -> None:
    """Wait to be cancelled, then free what is shielded."""
    try:
        await trio.sleep_forever()
    finally:
        stream.let_go()


def phrased(data: bytes) -> bytes:
    """Put the reason phrase into a status line that has none."""
    if (head := _HEAD.match(data)) is None:
        return data
    status = int(head[1])
    try:
        phrase = _PHRASES.get(status) or http.HTTPStatus(status).phrase
    except ValueError:
        return data
    return b"HTTP/1.1 %d %s\r\n%s" % (status, phrase.encode(), data[head.end() :])
