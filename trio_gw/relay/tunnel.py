"""Drive all pairs of sockets, TLS or not, from one epoll set: the fast path of the relay.

Trio registers a socket anew for every wait and switches tasks for every wake-up. For each message
that costs more than relaying it. Here each socket is registered once, in an epoll set of our own.
Ready sockets are served (`relay.epoll_loop`) inside Trio's own wait (`relay.trio_wait`), in bounded
rounds, so neither a bulk transfer nor ten thousand busy connections keep the rest of Trio from
running. Where that is not possible, one task waits for the epoll set as for any readable object.

The fast path knows only the middle of a connection's life. Whatever else happens (a Close frame, a
violation, an end from either side, `Lane.end`), it releases the pair and hands it, with what is
still unsent, to `pump`. Only `pump` decides how connections end, so both drivers give the same
endings. Messages that must wait for their rate limit go there too, because `pump` reads ahead to
notice a sender that leaves.

A connection's own task sleeps meanwhile, in its own nursery and under its own deadlines. When it is
cancelled, the pair is unregistered.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Ending, Side
from trio_gw.relay import close_handshake, pump, syscalls
from trio_gw.relay.epoll_loop import LIMITED_FRAMES_PER_TURN, Poller
from trio_gw.relay.lane import FRAMES_PER_TURN
from trio_gw.relay.pair import Pair
from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.trio_wait import TrioWait, switched_off
from trio_gw.relay.waits import Waits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.pump import Relayed
    from trio_gw.relay.rate_limit import RateLimit

log = logging.getLogger("trio_gw")

AT_ONCE = syscalls.MAX_EVENTS  # sockets served before other tasks run
BUSY = 4  # with so many sockets ready in one round, more are likely to be ready by now

_FREE: Mapping[Side, RateLimit] = MappingProxyType({})
_NOTHING = (b"", b"")  # of client and backend


class Tunnels:
    """All tunnels of one process. `run` serves them; without it `carry` leaves all to `pump`."""

    def __init__(self, *, exclusive: bool = False, bypass: bool = True) -> None:
        """Make an empty set of tunnels.

        `exclusive`: no other process waits for what this one waits for. Without `bypass`, and where
        Trio does not allow it, messages pass through Trio.
        """
        self._exclusive = exclusive
        self._bypass = bypass and not switched_off()
        self._poller: Poller | None = None
        self.waits = Waits()

    def __len__(self) -> int:
        """Count the pairs on the fast path."""
        return 0 if self._poller is None else len(self._poller) // 2

    def waiting(self) -> dict[int, int]:
        """Count the bytes that wait to be sent: for each pair, by the `id` of its client's lane."""
        pairs = [] if self._poller is None else self._poller.pairs()
        return {
            id(pair.client.lane): len(pair.client.unsent) + len(pair.backend.unsent)
            for pair in pairs
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        poller = self._poller = self.waits.poller = Poller()
        try:
            task_status.started()
            if self._bypass:
                reason = await TrioWait(poller, exclusive=self._exclusive).run()
                log.warning("messages are relayed the slow way, through Trio: %s", reason)
            while True:
                if poller.pending:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(poller.fileno())
                left = AT_ONCE
                while left > 0:
                    served = poller.poll_once(left)
                    if served < BUSY:
                        break
                    left -= served
        finally:
            self._poller = self.waits.poller = None
            for pair in poller.pairs():
                poller.unregister(pair)
                pair.on_release()
            for call in poller.callbacks():
                call()
            poller.close()

    async def carry(
        self,
        relayed: Relayed,
        *,
        early: tuple[bytes, bytes] = _NOTHING,
        close_timeout: float,
        rate_limits: Mapping[Side, RateLimit] = _FREE,
    ) -> Ending:
        """Relay until the end, as `pump.carry` does: any two streams, both closed at the end."""
        client, backend, publish, subscribe = relayed
        unsent = _NOTHING
        near, far = _socket(client), _socket(backend)
        if self._poller is not None and near is not None and far is not None:
            both = rate_limits.get(Side.CLIENT), rate_limits.get(Side.BACKEND)
            if rate_limits:
                for rate_limit, lane in zip(both, (publish, subscribe), strict=True):
                    if rate_limit is not None:
                        rate_limit.bind(lane, (publish, subscribe))
            try:
                if early != _NOTHING:
                    unsent = (
                        await _passed(subscribe, early[1], both[1]),
                        await _passed(publish, early[0], both[0]),
                    )
                    early = _NOTHING
                paused = rate_limits and any(
                    rate_limit is not None and rate_limit.waiting for rate_limit in both
                )
                poller = self.waits.poller  # `run` may have ended meanwhile
                if poller is not None and not (publish.halted or subscribe.halted or paused):
                    tunnel = _Tunnel((near, far), (publish, subscribe), unsent, both)
                    unsent = await tunnel.run(poller)
            except BaseException:
                for stream in (client, backend):
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(stream)
                raise
        ended: Ending | None = None
        streams = client, backend
        simple = self.waits.running and not rate_limits and early == unsent == _NOTHING
        if simple and close_handshake.are_plain(streams):
            finished = await close_handshake.finish(
                streams, (publish, subscribe), self.waits, close_timeout
            )
            if isinstance(finished, Ending):
                return finished
            ended, unsent, close_timeout = finished
        return await pump.carry(
            relayed,
            early=early,
            unsent=unsent,
            close_timeout=close_timeout,
            ended=ended,
            rate_limits=rate_limits,
        )


async def _passed(lane: Lane, early: bytes, rate_limit: RateLimit | None) -> bytes:
    """Return what may pass of the bytes received before the relay. Other tasks run meanwhile."""
    parts: list[bytes] = []
    while True:
        if rate_limit is None:
            parts.append(bytes(lane.feed(early, FRAMES_PER_TURN)))
        elif passed := lane.feed(early, LIMITED_FRAMES_PER_TURN, counted=True):
            parts.append(rate_limit.police(passed, 0))
        if not lane.rest or lane.halted or (rate_limit is not None and rate_limit.waiting):
            return b"".join(parts)
        early = b""
        await trio.lowlevel.checkpoint()


def _socket(stream: trio.abc.Stream) -> int | ssl.SSLSocket | None:
    """Return the socket of a stream, None if the fast path cannot use it."""
    if isinstance(stream, (PlainStream, trio.SocketStream)):
        return stream.socket.fileno()
    return stream.tls if isinstance(stream, SecureStream) else None


class _Tunnel(Pair):
    """A pair on the fast path, and the task that sleeps meanwhile."""

    __slots__ = ("_poller", "_task")

    async def run(self, poller: Poller) -> tuple[bytes, bytes]:
        """Sleep until the pair is released; returns the unsent bytes for client and backend.

        Raises MemoryError if there was no memory for some of them.
        """
        self._poller = poller
        self._task = trio.lowlevel.current_task()
        try:
            if self._enter():
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            if self.failed:
                raise MemoryError
        finally:
            self.unlink()
        return self.client.unsent, self.backend.unsent

    def _enter(self) -> bool:
        """Register the pair. Returns False if the kernel refuses."""
        try:
            self._poller.register(self)
        except (OSError, ValueError):  # closed already, or the kernel's limit of watches is reached
            self._poller.unregister(self)
            return False
        self.client.lane.wake = self.backend.lane.wake = self._leave
        return True

    def on_release(self) -> None:
        self._unhook()
        trio.lowlevel.reschedule(self._task)

    def _leave(self) -> None:
        """Release the pair because a lane wants to end."""
        self._poller.unregister(self)
        self.on_release()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        """Unregister the pair because its task was cancelled."""
        self._poller.unregister(self)
        self._unhook()
        return trio.lowlevel.Abort.SUCCEEDED

    def _unhook(self) -> None:
        # Until `pump` sets its own callbacks, each lane is checked before it is used.
        self.client.lane.wake = self.backend.lane.wake = None
