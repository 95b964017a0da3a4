"""TLS on a non-blocking socket, as a Trio stream. OpenSSL reads and writes the socket itself.

Trio's own TLS stream copies every byte through two memory buffers. Here there are none, and both
drivers of the relay can use the socket: `pump` as a stream, `tunnel` in its epoll set.

Theory of operation. OpenSSL does not read ahead: it takes one record off the socket at a time. A
read with room for a complete record (`RECORD`) leaves nothing decrypted inside OpenSSL, where epoll
would not see it. A write that the socket did not take has to be repeated with the same bytes.
Renegotiation, where reading would have to wait for writing, is not supported.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.relay.plain import PlainStream

_T = TypeVar("_T")

_CHUNK = 64 * 1024


class SecureStream(trio.abc.HalfCloseableStream):
    """A TLS connection. Call `do_handshake` first. At most one task sends, and one receives.

    As HTTPS needs it, the end of the TCP connection counts as the end of the stream. `tls` is the
    socket, for the results of the handshake (`getpeercert`) and for the fast path.
    """

    def __init__(
        self,
        stream: PlainStream | trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Take the socket out of `stream`, which must not be used any more.

        Raises `OSError` if the connection is lost already; then `stream` has to be closed.
        """
        stream.socket.getpeername()
        kind, family = stream.socket.type, stream.socket.family
        with socket.socket(family, kind, fileno=stream.socket.detach()) as sock:
            self.tls = context.wrap_socket(
                sock,
                server_side=server_side,
                do_handshake_on_connect=False,
                server_hostname=server_hostname,
                session=session,
            )
        self.tls.setblocking(False)

    async def do_handshake(self) -> None:
        """Do the handshake. Raises `BrokenResourceError` with the reason as its cause."""
        await self._retry(self.tls.do_handshake)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, or fail."""
        await trio.lowlevel.checkpoint_if_cancelled()
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                with view[sent:] as rest:
                    sent += await self._retry(partial(self.tls.send, rest))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes bytes."""
        self._check()
        await trio.lowlevel.wait_writable(self.tls)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what has arrived, empty at the end. `max_bytes` must be a `RECORD` at least."""
        await trio.lowlevel.checkpoint_if_cancelled()
        data = await self._retry(partial(self.tls.recv, max_bytes or _CHUNK))
        await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    async def receive_raw(self) -> int:
        """Discard what has arrived, without decrypting it; returns how much, 0 at the end."""
        while True:
            self._check()
            try:
                return len(socket.socket.recv(self.tls, _CHUNK))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.tls)
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """Close the sending direction of the TCP connection; TLS has no half-closed state."""
        await trio.lowlevel.checkpoint()
        self._check()
        try:
            # Not the method of the TLS socket: that would remove TLS from it.
            socket.socket.shutdown(self.tls, socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError from error

    def send_close_notify(self) -> None:
        """Send TLS's close_notify, if the socket takes it. Nothing can be sent after it."""
        with contextlib.suppress(OSError, ValueError):  # it would wait for the peer's close_notify
            self.tls.unwrap()

    async def aclose(self) -> None:
        """Close with a close_notify, without waiting for the peer's."""
        if self.tls.fileno() != -1:
            trio.lowlevel.notify_closing(self.tls)
            self.send_close_notify()
            self.tls.close()
        await trio.lowlevel.checkpoint()

    async def _retry(self, act: Callable[[], _T]) -> _T:
        """Call a method of the socket, and wait for the socket as long as the method needs it."""
        while True:
            self._check()
            wait = trio.lowlevel.wait_readable
            try:
                return act()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLWantWriteError:
                wait = trio.lowlevel.wait_writable
            except (OSError, ValueError) as error:
                raise trio.BrokenResourceError from error
            try:
                await wait(self.tls)
            except trio.BusyResourceError as error:  # only a renegotiation leads to this
                raise trio.BrokenResourceError from error

    def _check(self) -> None:
        if self.tls.fileno() == -1:
            raise trio.ClosedResourceError
