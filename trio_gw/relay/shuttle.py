"""Drive all pairs of sockets, TLS or not, from one epoll set: the fast road of the relay.

Trio registers a socket anew for every wait and switches tasks for every wake-up; per message that
costs more than the message. Here each socket is registered once, in an epoll set of the
shuttle's own; what is ready is served (`relay.turn`) inside Trio's own wait (`relay.bypass`), in
bounded rounds, so that neither a bulk transfer nor ten thousand busy connections keep the rest
of Trio from running. Where that cannot be done one task waits for the set as for any readable
object.

The shuttle knows only the middle of a connection's life. Whatever else happens (a Close frame, a
violation, an end from either side, `Lane.end`) it drops the pair and hands it, with what is still
unsent, to `pump`, whose word on endings is the only one: both drivers give the same endings. So it
is with what has to wait at a gate: there, it can be read ahead whether its sender leaves.

A connection's own task sleeps meanwhile, in its own nursery and under its own deadlines; to
cancel it is to drop the pair.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Ending, Side
from trio_gw.relay import calls, parting, pump
from trio_gw.relay.bypass import Bypass
from trio_gw.relay.lane import LOOKS
from trio_gw.relay.pair import Pair
from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.turn import SCREENED, Sockets
from trio_gw.relay.waits import Waits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.toll import Toll

AT_ONCE = calls.MOST  # sockets served before other tasks get their turn
BUSY = 4  # sockets ready in one round that make it likely that more are by now

_FREE: Mapping[Side, Toll] = MappingProxyType({})
_NOTHING = (b"", b"")  # of client and backend


class Shuttle:
    """The road of one process. `run` serves it; without it `carry` leaves all to `pump`."""

    def __init__(self, *, sole: bool = False) -> None:
        """Make a road; `sole` tells that no other process has what this one waits for."""
        self._sole = sole
        self._sockets: Sockets | None = None
        self.waits = Waits()

    def __len__(self) -> int:
        """Count the pairs on the road."""
        return 0 if self._sockets is None else len(self._sockets) // 2

    def waiting(self) -> dict[int, int]:
        """Tell of each pair how many bytes wait to be sent, by the `id` of its client's lane."""
        pairs = [] if self._sockets is None else self._sockets.pairs()
        return {
            id(pair.client.lane): len(pair.client.unsent) + len(pair.backend.unsent)
            for pair in pairs
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        sockets = self._sockets = self.waits.sockets = Sockets()
        try:
            task_status.started()
            await Bypass(sockets, sole=self._sole).run()
            while True:  # Trio's wait cannot be had
                if sockets.pending:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(sockets.fileno())
                left = AT_ONCE
                while left > 0:
                    served = sockets.serve(left)
                    if served < BUSY:
                        break
                    left -= served
        finally:
            self._sockets = self.waits.sockets = None
            for pair in sockets.pairs():
                sockets.drop(pair)
                pair.let_go()
            for call in sockets.guests():
                call()
            sockets.close()

    async def carry(
        self,
        client: trio.abc.Stream,
        backend: trio.abc.Stream,
        publish: Lane,
        subscribe: Lane,
        *,
        early: tuple[bytes, bytes] = _NOTHING,
        close_timeout: float,
        tolls: Mapping[Side, Toll] = _FREE,
    ) -> Ending:
        """Relay until the end, as `pump.carry` does: any two streams, both closed at the end."""
        unsent = _NOTHING
        near, far = _socket(client), _socket(backend)
        if self._sockets is not None and near is not None and far is not None:
            both = tolls.get(Side.CLIENT), tolls.get(Side.BACKEND)
            if tolls:
                for toll, lane in zip(both, (publish, subscribe), strict=True):
                    if toll is not None:
                        toll.begin(lane, (publish, subscribe))
            try:
                if early != _NOTHING:
                    unsent = (
                        await _passed(subscribe, early[1], both[1]),
                        await _passed(publish, early[0], both[0]),
                    )
                    early = _NOTHING
                held = tolls and any(toll is not None and toll.waiting for toll in both)
                road = self.waits.sockets  # it may have ended meanwhile
                if road is not None and not (publish.halted or subscribe.halted or held):
                    ride = _Ride((near, far), (publish, subscribe), unsent, both)
                    unsent = await ride.on(road)
            except BaseException:
                for stream in (client, backend):
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(stream)
                raise
        ended: Ending | None = None
        streams = client, backend
        simple = self.waits.running and not tolls and early == unsent == _NOTHING
        if simple and parting.are_plain(streams):
            parted = await parting.part(streams, (publish, subscribe), self.waits, close_timeout)
            if isinstance(parted, Ending):
                return parted
            ended, unsent, close_timeout = parted
        return await pump.carry(
            client,
            backend,
            publish,
            subscribe,
            early=early,
            unsent=unsent,
            close_timeout=close_timeout,
            ended=ended,
            tolls=tolls,
        )


async def _passed(lane: Lane, early: bytes, toll: Toll | None) -> bytes:
    """Return what may pass of what came before the relay began; others get their turn meanwhile."""
    parts: list[bytes] = []
    while True:
        if toll is None:
            parts.append(bytes(lane.feed(early, LOOKS)))
        elif passed := lane.feed(early, SCREENED, counted=True):
            parts.append(toll.screen(passed, 0))
        if not lane.rest or lane.halted or (toll is not None and toll.waiting):
            return b"".join(parts)
        early = b""
        await trio.lowlevel.checkpoint()


def _socket(stream: trio.abc.Stream) -> int | ssl.SSLSocket | None:
    """Return what the road needs of a stream, nothing if it cannot take it."""
    if isinstance(stream, (PlainStream, trio.SocketStream)):
        return stream.socket.fileno()
    return stream.tls if isinstance(stream, SecureStream) else None


class _Ride(Pair):
    """A pair on the road, and the task that sleeps meanwhile."""

    __slots__ = ("_sockets", "_task")

    async def on(self, sockets: Sockets) -> tuple[bytes, bytes]:
        """Sleep until the pair is let go; returns what client and backend still have to be sent."""
        self._sockets = sockets
        self._task = trio.lowlevel.current_task()
        try:
            if self._enter():
                await trio.lowlevel.wait_task_rescheduled(self._abort)
        finally:
            self.part()
        return self.client.unsent, self.backend.unsent

    def _enter(self) -> bool:
        """Have the pair watched, if the kernel wants to."""
        try:
            self._sockets.add(self)
        except (OSError, ValueError):  # closed already, or the kernel's limit of watches is reached
            self._sockets.drop(self)
            return False
        self.client.lane.wake = self.backend.lane.wake = self._leave
        return True

    def let_go(self) -> None:
        self._unhook()
        trio.lowlevel.reschedule(self._task)

    def _leave(self) -> None:
        """Let go because a lane wants to end."""
        self._sockets.drop(self)
        self.let_go()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        """Drop the pair because its task was cancelled."""
        self._sockets.drop(self)
        self._unhook()
        return trio.lowlevel.Abort.SUCCEEDED

    def _unhook(self) -> None:
        # From here until `pump` has its own hooks in place a lane is looked at before it is used.
        self.client.lane.wake = self.backend.lane.wake = None
