"""Notices that a client disconnects while its backend is connected to and asked.

No backend is asked for a client that has left. A task that reads from the client would notice, but
it would cost more than the rest of the dial phase. So the client's socket is watched together with
the socket that is waited for, for a hangup only (`relay.waits`). Data that the client sends early
stays in the kernel's buffers, within their bounds.
"""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING

import trio

from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.waits import Woken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.relay.waits import Waits


class ClientGoneError(Exception):
    """The client disconnected before the upgrade was complete."""


class ClientWatch:
    """Watches the client of one handshake. A stream without a socket is not watched."""

    __slots__ = ("_fd", "_waits")

    def __init__(self, stream: trio.abc.Stream, waits: Waits) -> None:
        self._waits = waits
        self._fd = -1
        if isinstance(stream, PlainStream):
            self._fd = stream.socket.fileno()
        elif isinstance(stream, SecureStream):
            self._fd = stream.tls.fileno()

    async def receive(self, stream: PlainStream, due: float) -> bytes | None:
        """Receive from a backend; returns None if nothing arrives before `due` (Trio's clock).

        Raises `ClientGoneError` if the client disconnects first.
        """
        while True:
            # The response cannot be there yet, so wait before the first attempt to receive.
            woken = await self._waits.readable(stream.socket.fileno(), due, self._fd)
            if woken is Woken.HUNG_UP:
                raise ClientGoneError
            if (data := stream.receive_now()) is not None:
                return data
            if woken is Woken.TIMED_OUT:
                return None

    @contextlib.contextmanager
    def cancel_on_disconnect(self) -> Iterator[None]:
        """Cancel the body if the client disconnects, and raise `ClientGoneError`.

        If the body has finished anyway, the next wait raises it.
        """

        def on_hangup() -> None:
            self._waits.unwatch(self._fd)
            scope.cancel()

        with trio.CancelScope() as scope:
            watched = self._waits.watch(self._fd, select.EPOLLRDHUP, on_hangup)
            try:
                yield
            finally:
                if watched:
                    self._waits.unwatch(self._fd)
        if scope.cancelled_caught:
            raise ClientGoneError
