"""RPC between the worker processes of one gateway.

Every worker has a channel, a pair of connected sockets that is created before the fork. So a
restarted worker finds its channel again, and no process outside can reach it: it has no name in a
file system or elsewhere. A request is one packet in the channel, and carries a new socket for the
response. That socket closes if the callee ends, so an incomplete response is noticed. Nobody waits
longer than the deadline, or reads more than `MAX_RESPONSE`. The callers define the content of
requests and responses (`admin.rpc_messages`).
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
MAX_CONCURRENT = 16  # requests in progress; more get no response

_DEADLINE = struct.Struct("=d")  # before a request: its deadline, by the monotonic clock
_LENGTH = struct.Struct("=I")  # before a response
_DESCRIPTOR = struct.Struct("=i")


class RpcChannels:
    """One channel per process, created before the fork."""

    def __init__(self, processes: int) -> None:
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        for _ in range(processes):
            # Packets, so that requests of several processes never mix.
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._pairs.append(pair)
            for end in pair:
                end.setblocking(False)

    def __len__(self) -> int:
        return len(self._pairs)

    def close(self) -> None:
        """Close all of them in this process."""
        for end in (end for pair in self._pairs for end in pair):
            end.close()

    def send_end(self, process: int) -> socket.socket:
        """Return the socket to send packets to a process."""
        return self._pairs[process][0]

    def receive_end(self, process: int) -> socket.socket:
        """Return the socket from which that process receives them."""
        return self._pairs[process][1]


class WorkerRpc:
    """RPC for the worker with this `index`; without channels there are no other workers."""

    def __init__(self, channels: RpcChannels | None = None, index: int = 0) -> None:
        self._channels = channels
        self._index = index
        self._in_progress = 0

    @property
    def others(self) -> list[int]:
        """The indices of the other workers."""
        count = 0 if self._channels is None else len(self._channels)
        return [index for index in range(count) if index != self._index]

    # -- caller --------------------------------------------------------------------------------

    async def call(
        self, request: bytes, targets: Iterable[int], *, seconds: float
    ) -> dict[int, bytes]:
        """Send a request to several workers. Returns the responses received within `seconds`."""
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
        except OSError as error:  # no descriptors left
            log.warning("cannot ask worker %d: %s", index + 1, error.strerror)
            return
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            with theirs:
                rights = _DESCRIPTOR.pack(theirs.fileno())
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                try:
                    self._channels.send_end(index).sendmsg([packet], ancillary)
                except OSError as error:  # the channel is full: the worker does not read
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

    # -- callee --------------------------------------------------------------------------------

    async def serve(
        self,
        handler: Callable[[bytes], Awaitable[bytes]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer requests of the others. Runs until cancelled; returns if there are no others."""
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
                # Without free descriptors there is no socket; the caller notices that.
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
            log.debug("a worker sent a request and did not wait for the response")
        except Exception:
            log.exception("a request of another worker failed")
        finally:
            self._in_progress -= 1
