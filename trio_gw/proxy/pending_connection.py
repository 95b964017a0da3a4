"""A connection that waits for its client, and may be closed to make room for another one.

That is the time before the request is complete, and after a response to a request that was not
upgraded. It is not the time while a backend is asked, nor the life of a WebSocket. See
`guard.pending`.
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
    """While this context is active the connection may be ended, as if its client had hung up."""

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
        """Whether the connection was ended to make room."""
        return self._entry.over

    def _end(self) -> None:
        """Shut down both directions. A task that waits for the socket wakes up and sees the end."""
        stream = self._stream
        if isinstance(stream, PlainStream):
            sock = stream.socket
        elif isinstance(stream, SecureStream):
            sock = stream.tls
        else:
            return
        with contextlib.suppress(OSError):
            # Not `tls.shutdown`, which would drop the TLS state of the socket.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
