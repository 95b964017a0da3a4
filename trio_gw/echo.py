"""The embedded echo backend: sends every WebSocket message back to its sender.

For trying out the gateway, and for tests. `trio-gw echo` runs it alone, `trio-gw run --echo`
together with the gateway. Accepts any path and the first offered subprotocol.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketRequest, wrap_server_stream

from trio_gw.proxy.listener import accept_all, bind

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

log = logging.getLogger("trio_gw.echo")

MAX_MESSAGE = 64 * 1024 * 1024  # bytes; the library's default is 1 MiB


async def serve(
    host: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; reports the port. Raises `UnusableError` if it cannot bind."""
    sockets = bind("echo", host, port)
    async with trio.open_nursery() as nursery:
        for sock in sockets:
            nursery.start_soon(accept_all, sock, _connection, nursery)
        task_status.started(sockets[0].getsockname()[1])


async def _connection(stream: trio.abc.Stream, peer: str) -> None:
    try:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream, max_message_size=MAX_MESSAGE)
            await _echo(request)
            nursery.cancel_scope.cancel()
    except* (HandshakeError, ConnectionClosed, trio.BrokenResourceError, OSError) as ended:
        log.debug("%s left: %s", peer, ended.exceptions[0])
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


async def _echo(request: WebSocketRequest) -> None:
    log.info("connection to %s", request.path)
    offered = request.proposed_subprotocols
    connection: WebSocketConnection = await request.accept(
        subprotocol=offered[0] if offered else None
    )
    async with connection:
        while True:
            await connection.send_message(await connection.get_message())
