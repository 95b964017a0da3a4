"""Close a connection in such a way that the peer can still read the last bytes sent to it."""

from __future__ import annotations

import contextlib
import select

import trio

from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.sizes import CHUNK

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a stream raises when its peer is gone."""


async def lingering_close(stream: trio.abc.Stream, *, wait_only: bool = False) -> None:
    """Send nothing more, and discard what arrives until the peer closes. The caller sets a timeout.

    Closing a socket with unread bytes would reset the connection, and destroy the last bytes on
    their way to the peer. With `wait_only` the peer has to close first. Raises one of `BROKEN` if
    the peer is gone already.
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
    """Close the sending direction, if the stream can do that."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()


async def wait_hangup(stream: trio.abc.Stream) -> None:
    """Wait until a peer has closed, even if it sent something before that is not read yet.

    For a stream without a socket this waits for ever.
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
