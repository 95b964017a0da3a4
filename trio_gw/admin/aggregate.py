"""What all workers of this gateway say, put together by the one that was asked.

A worker that does not answer in time (`PATIENCE`) is named in the answer, by its number; what
the others said is told all the same. One that is known not to respond is not asked, but named. One
that has ended, and is being replaced, is not asked: its
connections have ended with it, and what it had counted is kept (`telemetry.metrics.retire`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import trio

from trio_gw.admin.rpc_messages import (
    CloseConnection,
    ConnectionList,
    GetStats,
    ListConnections,
    ListProblems,
    sort_connections,
)
from trio_gw.errors import Problem
from trio_gw.telemetry.metrics import merge, unpack
from trio_gw.workers.shared_state import WorkerState

if TYPE_CHECKING:
    from trio_gw.admin.rpc_messages import RpcRequest
    from trio_gw.admin.worker_status import WorkerStatus
    from trio_gw.telemetry.metrics import Snapshot
    from trio_gw.workers.rpc import WorkerRpc
    from trio_gw.workers.shared_state import SharedState

log = logging.getLogger("trio_gw.admin")

PATIENCE = 2.0  # seconds
_GONE = (WorkerState.ABSENT, WorkerState.MISSING)

T = TypeVar("T")
Missing = list[int]  # numbers of workers


class Aggregate(NamedTuple):
    """This worker and the others."""

    worker_status: WorkerStatus
    shared_state: SharedState
    rpc: WorkerRpc

    async def connections(self, asked: ListConnections) -> tuple[ConnectionList, Missing]:
        """List connections of all workers in one order."""
        listings: list[ConnectionList] = []

        async def own() -> None:
            listings.append(await self.worker_status.connections(asked))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(own)
            responses, missing = await self._others(asked, asked.sample + PATIENCE)
        listings += self._decode(responses, ConnectionList, missing).values()
        found = sort_connections(
            [one for listing in listings for one in listing.connections], asked.sort
        )
        total = sum(listing.total for listing in listings)
        matching = sum(listing.matching for listing in listings)
        return ConnectionList(total, matching, found[: asked.limit]), missing

    async def close(self, asked: CloseConnection) -> tuple[bool, Missing]:
        """End a connection, whichever worker has it; tells whether one had."""
        if self.worker_status.close(asked):
            return True, []
        responses, missing = await self._others(asked, PATIENCE)
        return any(self._decode(responses, bool, missing).values()), missing

    async def problems(self) -> tuple[list[Problem], Missing]:
        """Tell what is wrong; most of it all workers know, and it is told once."""
        found = list(self.worker_status.problems())
        responses, missing = await self._others(ListProblems(), PATIENCE)
        for problems in self._decode(responses, tuple[Problem, ...], missing).values():
            found += problems
        return list(dict.fromkeys(found)), missing

    async def numbers(self) -> tuple[Snapshot, Missing] | None:
        """Add up what all workers have counted, as of now; None if nothing is counted.

        Of one that does not answer it is what it showed last, up to a second before it fell silent.
        """
        metrics = self.worker_status.metrics
        if metrics is None:
            return None
        fresh, missing = await self._others(GetStats(), PATIENCE)
        snapshots = [metrics.snapshot()]
        shown = metrics.shown()
        states = self.shared_state.states()
        for index, page in shown.items():
            # Of one that has ended meanwhile there is its page.
            here = index in fresh and states[index] not in _GONE
            snapshots.append(unpack(fresh[index]) if here else page)
        return merge(snapshots), missing

    async def _others(
        self, question: RpcRequest, within: float
    ) -> tuple[dict[int, bytes], Missing]:
        """Ask them; returns what they answered by their index, and who did not."""
        gone = [index for index, state in enumerate(self.shared_state.states()) if state in _GONE]
        asked = [index for index in self.rpc.others if index not in gone]
        hung = self.shared_state.unresponsive()
        if not asked:
            return {}, hung
        packet = msgspec.msgpack.encode(question)
        responses = await self.rpc.call(packet, asked, seconds=within)
        return responses, sorted(hung + [index + 1 for index in asked if index not in responses])

    def _decode(self, responses: dict[int, bytes], kind: type[T], missing: Missing) -> dict[int, T]:
        """Decode answers; one that cannot be read is none."""
        read = {}
        for index, answer in responses.items():
            try:
                read[index] = msgspec.msgpack.decode(answer, type=kind)
            except msgspec.DecodeError as error:
                log.error("worker %d does not say what it was asked: %s", index + 1, error)
                missing.append(index + 1)
        return read
