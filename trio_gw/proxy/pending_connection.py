"""A connection while its client keeps it waiting, so that it may have to make room for others.

That is before the request is complete, and after the answer to one that is not upgraded; not
while a backend is asked, or while there is a WebSocket. See `guard.pending`.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream

if TYPE_CHECKING:
    import trio

    from trio_gw.guard.pending import Pending


class PendingConnection:
    """A context: inside of it the connection may be ended, which looks as if its client had."""

    __slots__ = ("_address", "_entry", "_pending", "_stream")

    def __init__(self, pending: Pending, address: str, stream: trio.abc.Stream) -> None:
        self._pending = pending
        self._address = address
        self._stream = stream

    def __enter__(self) -> PendingConnection:
        self._entry = self._pending.enter(self._address, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        self._pending.leave(self._entry)

    @property
    def ended(self) -> bool:
        """Tell whether it had to make room."""
        return self._entry.over

    def _end(self) -> None:
        """End both directions: whoever waits for the socket is woken, and sees the end."""
        stream = self._stream
        if isinstance(stream, PlainStream):
            sock = stream.socket
        elif isinstance(stream, SecureStream):
            sock = stream.tls
        else:
            return
        with contextlib.suppress(OSError):
            # Not the method of a TLS socket, which would forget that there is TLS.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
