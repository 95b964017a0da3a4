"""Leaving a peer so that it can still read the last that was said to it."""

from __future__ import annotations

import contextlib
import select

import trio

from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.sizes import CHUNK

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a stream raises when there is nobody at its other end any more."""


async def lingering_close(stream: trio.abc.Stream, *, wait_only: bool = False) -> None:
    """Say nothing more and discard what comes until the peer hangs up too; the caller sets a limit.

    Closing with unread bytes in the socket would reset the connection, and destroy the last
    words on their way to the peer. With `wait_only` the peer is left to end it first. Raises one
    of `BROKEN` when there is nobody to wait for.
    """
    if not wait_only:
        if isinstance(stream, SecureStream):
            stream.send_close_notify()
        await send_eof(stream)
    if isinstance(stream, SecureStream):
        while await stream.receive_raw():
            pass
    else:
        while await stream.receive_some(CHUNK):
            pass


async def send_eof(stream: trio.abc.Stream) -> None:
    """Say that nothing more will be sent, where that can be said."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()


async def wait_hangup(stream: trio.abc.Stream) -> None:
    """Wait until a peer has hung up, whatever it has said before that and nobody has read yet.

    Of a stream without a socket that cannot be known.
    """
    number = -1
    if isinstance(stream, PlainStream | trio.SocketStream):
        number = stream.socket.fileno()
    elif isinstance(stream, SecureStream):
        number = stream.tls.fileno()
    with contextlib.suppress(OSError, ValueError), select.epoll() as watch:
        watch.register(number, select.EPOLLRDHUP)
        await trio.lowlevel.wait_readable(watch.fileno())
        return
    await trio.sleep_forever()
