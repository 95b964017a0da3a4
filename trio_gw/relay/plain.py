"""A TCP connection as a Trio stream, with methods that try without waiting.

Trio's own `SocketStream` yields to the scheduler with every call. That is right for a relay, and
this class does it too. In a handshake a few steps follow one another and mostly need not wait;
there, yielding costs more than the steps. `receive_now` and `send_now` are for those.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

from trio_gw.relay.sizes import CHUNK, HEAD_CHUNK, RECORD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class PlainStream(trio.abc.HalfCloseableStream):
    """Owns a connected TCP socket. `socket` is for drivers that wait for it themselves."""

    __slots__ = ("_ended", "_waiting", "socket")

    def __init__(self, sock: socket.socket) -> None:
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        self.socket = sock
        self._ended = False
        self._waiting = 0  # tasks that wait with Trio

    def receive_now(self, max_bytes: int = HEAD_CHUNK) -> bytes | None:
        """Return what has arrived: empty at the end of the stream, None if nothing has.

        Raises one of Trio's stream errors, as all methods here do.
        """
        try:
            return self.socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._explain() from error

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the socket takes without waiting; returns how many bytes."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._explain() from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive, as any Trio stream does."""
        size = CHUNK if max_bytes is None else max_bytes
        if size < 1:
            raise ValueError("max_bytes must be at least 1")
        await trio.lowlevel.checkpoint_if_cancelled()
        if (data := self.receive_now(size)) is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        while True:
            await self.wait(trio.lowlevel.wait_readable)
            if (data := self.receive_now(size)) is not None:
                return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, as any Trio stream does."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._ended or self.socket.fileno() < 0:
            raise trio.ClosedResourceError
        sent, size = self.send_now(data) if data else 0, len(data)
        if sent == size:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with memoryview(data) as view:
            while sent < size:
                await self.wait(trio.lowlevel.wait_writable)
                sent += self.send_now(view[sent:])

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes bytes."""
        await trio.lowlevel.checkpoint()
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError
        await self.wait(trio.lowlevel.wait_writable)

    async def wait(self, until: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Wait for the socket with one of Trio's functions, so that `close` ends the wait."""
        self._waiting += 1
        try:
            await until(self.socket)
        finally:
            self._waiting -= 1

    async def send_eof(self) -> None:
        """Close the sending direction."""
        await trio.lowlevel.checkpoint()
        if self._ended and self.socket.fileno() >= 0:
            return
        try:
            self.socket.shutdown(socket.SHUT_WR)
            self._ended = True
        except OSError as error:
            raise self._explain() from error

    def close(self) -> None:
        """Close at once, and wake the tasks that wait for it. Closing twice is allowed."""
        if self.socket.fileno() >= 0:
            if self._waiting:
                trio.lowlevel.notify_closing(self.socket)
            try:
                self.socket.close()
            except OSError:  # ECONNRESET: it is closed nevertheless
                return

    async def aclose(self) -> None:
        """Close, as any Trio stream does."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _explain(self) -> Exception:
        if self.socket.fileno() < 0:
            return trio.ClosedResourceError("this connection is closed")
        return trio.BrokenResourceError("the connection broke")


def close_now(stream: trio.abc.Stream) -> bool:
    """Close without a goodbye and without waiting, if possible; returns whether it was."""
    if isinstance(stream, PlainStream):
        stream.close()
        return True
    return False


async def discard(stream: trio.abc.Stream) -> None:
    """Close without a goodbye, also when cancelled. Waits only if the stream needs it."""
    if not close_now(stream):
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


class Discarding:
    """Discards a stream when the context ends, unless `keep` was called."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream: trio.abc.Stream | None = stream

    def keep(self) -> None:
        """Leave the stream open: it has another owner now."""
        self._stream = None

    async def __aenter__(self) -> Discarding:
        """Return this."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the stream, unless it is kept."""
        if self._stream is not None and not close_now(self._stream):
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)


def receive_now(stream: trio.abc.Stream) -> bytes | None:
    """Return the bytes that have arrived, None if there are none or the stream has to wait."""
    return stream.receive_now() if isinstance(stream, PlainStream) else None


async def receive(stream: trio.abc.Stream, size: int = HEAD_CHUNK) -> bytes:
    """Receive, without a checkpoint if bytes have arrived. Only for a small number of steps."""
    if isinstance(stream, PlainStream):
        if (data := stream.receive_now(size)) is not None:
            return data
        # Raises when it is closed meanwhile.
        await stream.wait(trio.lowlevel.wait_readable)
        if (data := stream.receive_now(size)) is not None:
            return data
    return bytes(await stream.receive_some(max(size, RECORD)))


async def send(stream: trio.abc.Stream, data: bytes) -> None:
    """Send, without a checkpoint if the socket takes it. Only for a small number of steps."""
    sent = stream.send_now(data) if isinstance(stream, PlainStream) else 0
    if sent < len(data):
        await stream.send_all(data[sent:])
