"""Who hangs up while a backend is dialed in their name.

Nobody waits for a backend for a client that has left. A task that reads from the client would
tell, and cost more than all the rest of dialing; so one epoll set watches all such clients for
the end of their connection, whatever they have sent before it, and one task waits for that set.
What a client sends too early stays where it is, in the kernel, within its bounds.
"""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING

import trio

from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

AT_ONCE = 256  # departures looked at before other tasks get their turn


class Departures:
    """One per process. `run` serves it."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._leave: dict[int, Callable[[], None]] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell of departures until cancelled."""
        with select.epoll() as self._epoll:
            try:
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    for fd, _ in self._epoll.poll(0, AT_ONCE):
                        if (leave := self._leave.get(fd)) is not None:
                            leave()
                    await trio.lowlevel.checkpoint()
            finally:
                self._epoll = None

    def watch(self, stream: trio.abc.Stream, leave: Callable[[], None]) -> int:
        """Call `leave` once when the client has hung up; returns what `forget` needs.

        A stream without a socket is not watched.
        """
        sock = _socket_below(stream)
        if sock is None or self._epoll is None:
            return -1
        fd = sock.fileno()
        with contextlib.suppress(OSError, ValueError):  # gone already: the next step finds out
            self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)
            self._leave[fd] = leave
        return fd

    def forget(self, fd: int) -> None:
        """Stop watching; before the socket is closed or handed on."""
        if self._leave.pop(fd, None) is not None and self._epoll is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)


def _socket_below(stream: trio.abc.Stream) -> socket.socket | None:
    if isinstance(stream, SecureStream):
        return stream.tls
    return stream.socket if isinstance(stream, PlainStream) else None
