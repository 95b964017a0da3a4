"""Who hangs up while a backend is asked in their name.

Nobody waits for a backend for a client that has left. A task that reads from the client would
tell, and cost more than all the rest of dialing; so its socket is watched, beside the one that is
waited for, for the end of its connection, whatever it has sent before that (`relay.waits`). What a
client sends too early stays where it is, in the kernel, within its bounds.
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
    """The client hung up before the upgrade was done."""


class ClientWatch:
    """The client of a handshake; one whose stream has no socket is not watched."""

    __slots__ = ("_fd", "_waits")

    def __init__(self, stream: trio.abc.Stream, waits: Waits) -> None:
        self._waits = waits
        self._fd = -1
        if isinstance(stream, PlainStream):
            self._fd = stream.socket.fileno()
        elif isinstance(stream, SecureStream):
            self._fd = stream.tls.fileno()

    async def receive(self, stream: PlainStream, due: float) -> bytes | None:
        """Receive from a backend; None if there is nothing by then, by Trio's clock.

        Raises `ClientGoneError` when the client leaves meanwhile.
        """
        while True:
            # What was asked for a moment ago is not there yet, so it is waited for at once.
            woken = await self._waits.readable(stream.socket.fileno(), due, self._fd)
            if woken is Woken.HUNG_UP:
                raise ClientGoneError
            if (data := stream.receive_now()) is not None:
                return data
            if woken is Woken.TIMED_OUT:
                return None

    @contextlib.contextmanager
    def cancel_on_disconnect(self) -> Iterator[None]:
        """Do something that may take its time, unless the client leaves: `ClientGoneError`.

        What is done by then stays done: the next who waits is told that the client has left.
        """

        def leave() -> None:
            self._waits.unwatch(self._fd)
            scope.cancel()

        with trio.CancelScope() as scope:
            watched = self._waits.watch(self._fd, select.EPOLLRDHUP, leave)
            try:
                yield
            finally:
                if watched:
                    self._waits.unwatch(self._fd)
        if scope.cancelled_caught:
            raise ClientGoneError
