"""Asking the other workers of this gateway something that only they know.

Every worker has a mailbox, a pair of connected sockets made before the fork, so that a worker
that is started again finds it, and so that nobody outside these processes can reach it: it has no
name, neither in a file system nor elsewhere. A question is one packet in the mailbox, and comes
with a socket of its own for the answer. That one ends with whoever answers, so an answer that was
cut short is seen; nobody waits longer than was said, and nobody reads more than `MAX_RESPONSE`.
What questions and answers mean is for those to say who ask (`admin.aggregate`).
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

log = logging.getLogger("trio_gw.rpc")

MAX_REQUEST = 8 * 1024  # bytes
MAX_RESPONSE = 8 << 20  # bytes
MAX_CONCURRENT = 16  # questions that are answered at one time; who asks more gets no answer

_DEADLINE = struct.Struct("=d")  # before a question: when nobody waits for its answer any more
_LENGTH = struct.Struct("=I")  # before an answer
_DESCRIPTOR = struct.Struct("=i")


class RpcChannels:
    """One for each process, made before they are forked."""

    def __init__(self, processes: int) -> None:
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        for _ in range(processes):
            # Packets, so that those of several processes never mix.
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._pairs.append(pair)
            for end in pair:
                end.setblocking(False)

    def __len__(self) -> int:
        return len(self._pairs)

    def close(self) -> None:
        """Be done with them, as far as this process is concerned."""
        for end in (end for pair in self._pairs for end in pair):
            end.close()

    def send_end(self, process: int) -> socket.socket:
        """Return where packets for a process are put."""
        return self._pairs[process][0]

    def receive_end(self, process: int) -> socket.socket:
        """Return where they are taken out, by that process alone."""
        return self._pairs[process][1]


class WorkerRpc:
    """The other workers, as seen by the one with this `index`; without mailboxes there are none."""

    def __init__(self, channels: RpcChannels | None = None, index: int = 0) -> None:
        self._channels = channels
        self._index = index
        self._in_progress = 0

    @property
    def others(self) -> list[int]:
        """List their indices."""
        count = 0 if self._channels is None else len(self._channels)
        return [index for index in range(count) if index != self._index]

    # -- asking --------------------------------------------------------------------------------

    async def call(
        self, request: bytes, targets: Iterable[int], *, seconds: float
    ) -> dict[int, bytes]:
        """Ask some of them at once; returns what those answered who did, within `seconds`."""
        assert len(request) <= MAX_REQUEST
        packet = _DEADLINE.pack(time.monotonic() + seconds) + request
        responses: dict[int, bytes] = {}
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for index in targets:
                    nursery.start_soon(self._call, index, packet, responses)
        return responses

    async def _call(self, index: int, packet: bytes, responses: dict[int, bytes]) -> None:
        assert self._channels is not None
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no more descriptors
            log.warning("cannot ask worker %d: %s", index + 1, error.strerror)
            return
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            with theirs:
                rights = _DESCRIPTOR.pack(theirs.fileno())
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                try:
                    self._channels.send_end(index).sendmsg([packet], ancillary)
                except OSError as error:  # it is full: nobody takes anything out
                    log.warning("cannot ask worker %d: %s", index + 1, error.strerror)
                    return
            received = bytearray()
            try:
                async for chunk in stream:
                    received += chunk
                    if len(received) > _LENGTH.size + MAX_RESPONSE:
                        return
            except trio.BrokenResourceError:
                return
        if len(received) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received)
            if length == len(received) - _LENGTH.size:
                responses[index] = bytes(received[_LENGTH.size :])

    # -- answering -----------------------------------------------------------------------------

    async def serve(
        self,
        handler: Callable[[bytes], Awaitable[bytes]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer what the others ask. Runs until cancelled; without others it returns."""
        task_status.started()
        if self._channels is None:
            return
        receive_end = self._channels.receive_end(self._index)
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(receive_end)
                try:
                    packet, ancillary, _, _ = receive_end.recvmsg(
                        _DEADLINE.size + MAX_REQUEST,
                        socket.CMSG_SPACE(_DESCRIPTOR.size),
                        socket.MSG_CMSG_CLOEXEC,
                    )
                except BlockingIOError:
                    continue
                # Without descriptors left there is none; who asked will see that.
                for _, _, rights in ancillary:
                    stream = trio.SocketStream(
                        trio.socket.from_stdlib_socket(
                            socket.socket(fileno=_DESCRIPTOR.unpack(rights)[0])
                        )
                    )
                    nursery.start_soon(partial(self._handle, handler, packet, stream))

    async def _handle(
        self,
        handler: Callable[[bytes], Awaitable[bytes]],
        packet: bytes,
        stream: trio.SocketStream,
    ) -> None:
        self._in_progress += 1
        try:
            async with stream:
                (deadline,) = _DEADLINE.unpack_from(packet)
                left = deadline - time.monotonic()
                if left <= 0 or self._in_progress > MAX_CONCURRENT:
                    return
                with trio.move_on_after(left):
                    response = await handler(packet[_DEADLINE.size :])
                    if len(response) <= MAX_RESPONSE:
                        await stream.send_all(_LENGTH.pack(len(response)) + response)
        except trio.BrokenResourceError:
            log.debug("a worker asked, and did not wait for the answer")
        except Exception:
            log.exception("a question of another worker could not be answered")
        finally:
            self._in_progress -= 1
