"""Asking the other workers of this gateway something that only they know.

Every worker has a mailbox, a pair of connected sockets made before the fork, so that a worker
that is started again finds it, and so that nobody outside these processes can reach it: it has no
name, neither in a file system nor elsewhere. A question is one packet in the mailbox, and comes
with a socket of its own for the answer. That one ends with whoever answers, so an answer that was
cut short is seen; nobody waits longer than was said, and nobody reads more than `MAX_ANSWER`.
What questions and answers mean is for those to say who ask (`admin.everyone`).
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

log = logging.getLogger("trio_gw.neighbours")

MAX_QUESTION = 8 * 1024  # bytes
MAX_ANSWER = 8 << 20  # bytes
AT_ONCE = 16  # questions that are answered at one time; who asks more gets no answer

_UNTIL = struct.Struct("=d")  # before a question: when nobody waits for its answer any more
_LENGTH = struct.Struct("=I")  # before an answer
_DESCRIPTOR = struct.Struct("=i")


class Mailboxes:
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

    def inlet(self, process: int) -> socket.socket:
        """Return where packets for a process are put."""
        return self._pairs[process][0]

    def outlet(self, process: int) -> socket.socket:
        """Return where they are taken out, by that process alone."""
        return self._pairs[process][1]


class Neighbours:
    """The other workers, as seen by the one with this `index`; without mailboxes there are none."""

    def __init__(self, mailboxes: Mailboxes | None = None, index: int = 0) -> None:
        self._mailboxes = mailboxes
        self._index = index
        self._answering = 0

    @property
    def others(self) -> list[int]:
        """List their indices."""
        count = 0 if self._mailboxes is None else len(self._mailboxes)
        return [index for index in range(count) if index != self._index]

    # -- asking --------------------------------------------------------------------------------

    async def ask(self, question: bytes, whom: Iterable[int], *, within: float) -> dict[int, bytes]:
        """Ask some of them at once; returns what those answered who did, `within` seconds."""
        assert len(question) <= MAX_QUESTION
        packet = _UNTIL.pack(time.monotonic() + within) + question
        answers: dict[int, bytes] = {}
        with trio.move_on_after(within):
            async with trio.open_nursery() as nursery:
                for index in whom:
                    nursery.start_soon(self._ask, index, packet, answers)
        return answers

    async def _ask(self, index: int, packet: bytes, answers: dict[int, bytes]) -> None:
        assert self._mailboxes is not None
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
                    self._mailboxes.inlet(index).sendmsg([packet], ancillary)
                except OSError as error:  # it is full: nobody takes anything out
                    log.warning("cannot ask worker %d: %s", index + 1, error.strerror)
                    return
            received = bytearray()
            try:
                async for chunk in stream:
                    received += chunk
                    if len(received) > _LENGTH.size + MAX_ANSWER:
                        return
            except trio.BrokenResourceError:
                return
        if len(received) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received)
            if length == len(received) - _LENGTH.size:
                answers[index] = bytes(received[_LENGTH.size :])

    # -- answering -----------------------------------------------------------------------------

    async def run(
        self,
        answer: Callable[[bytes], Awaitable[bytes]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer what the others ask. Runs until cancelled; without others it returns."""
        task_status.started()
        if self._mailboxes is None:
            return
        outlet = self._mailboxes.outlet(self._index)
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(outlet)
                try:
                    packet, ancillary, _, _ = outlet.recvmsg(
                        _UNTIL.size + MAX_QUESTION,
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
                    nursery.start_soon(partial(self._answer, answer, packet, stream))

    async def _answer(
        self,
        answer: Callable[[bytes], Awaitable[bytes]],
        packet: bytes,
        stream: trio.SocketStream,
    ) -> None:
        self._answering += 1
        try:
            async with stream:
                (until,) = _UNTIL.unpack_from(packet)
                left = until - time.monotonic()
                if left <= 0 or self._answering > AT_ONCE:
                    return
                with trio.move_on_after(left):
                    told = await answer(packet[_UNTIL.size :])
                    if len(told) <= MAX_ANSWER:
                        await stream.send_all(_LENGTH.pack(len(told)) + told)
        except trio.BrokenResourceError:
            log.debug("a worker asked, and did not wait for the answer")
        except Exception:
            log.exception("a question of another worker could not be answered")
        finally:
            self._answering -= 1
