"""Combines the answers of all workers; runs in the worker that received the request.

A worker that does not respond in time (`RPC_TIMEOUT`) is listed by its number, and the answers of
the others are returned. A worker that is known to be unresponsive is listed without being asked. A
worker that has ended and is being replaced is not asked: its connections have ended with it, and
its counts are kept (`telemetry.metrics.retire`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import trio

from trio_gw.admin.rpc_messages import (
    CloseConnection,
    ConnectionList,
    GetControlPlane,
    GetStats,
    ListConnections,
    ListProblems,
    RefreshRegistry,
    sort_connections,
)
from trio_gw.errors import Problem
from trio_gw.telemetry.metrics import merge, unpack
from trio_gw.workers.shared_state import WorkerState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.admin.operation_messages import OperationRequest
    from trio_gw.admin.rpc_messages import RpcRequest
    from trio_gw.admin.worker_status import WorkerStatus
    from trio_gw.control_plane.status import ControlPlaneStatus
    from trio_gw.telemetry.metrics import Snapshot
    from trio_gw.workers.rpc import WorkerRpc
    from trio_gw.workers.shared_state import SharedState

log = logging.getLogger("trio_gw.admin")

RPC_TIMEOUT = 2.0  # seconds
_GONE = (WorkerState.ABSENT, WorkerState.MISSING)

T = TypeVar("T")
Missing = list[int]  # numbers of workers


class Aggregate(NamedTuple):
    """This worker and the others."""

    worker_status: WorkerStatus
    shared_state: SharedState
    rpc: WorkerRpc

    async def connections(self, asked: ListConnections) -> tuple[ConnectionList, Missing]:
        """List the connections of all workers in one order."""
        listings: list[ConnectionList] = []

        async def own() -> None:
            listings.append(await self.worker_status.connections(asked))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(own)
            responses, missing = await self._others(asked, asked.sample + RPC_TIMEOUT)
        listings += self._decode(responses, ConnectionList, missing).values()
        found = sort_connections(
            [one for listing in listings for one in listing.connections], asked.sort
        )
        total = sum(listing.total for listing in listings)
        matching = sum(listing.matching for listing in listings)
        return ConnectionList(total, matching, found[: asked.limit]), missing

    async def close(self, asked: CloseConnection) -> tuple[bool, Missing]:
        """Close a connection in whichever worker it is. Returns whether it was found."""
        if self.worker_status.close(asked):
            return True, []
        responses, missing = await self._others(asked, RPC_TIMEOUT)
        return any(self._decode(responses, bool, missing).values()), missing

    async def problems(self) -> tuple[list[Problem], Missing]:
        """List the problems of all workers, each once; most are known to all workers."""
        found = list(self.worker_status.problems())
        responses, missing = await self._others(ListProblems(), RPC_TIMEOUT)
        for problems in self._decode(responses, tuple[Problem, ...], missing).values():
            found += problems
        return list(dict.fromkeys(found)), missing

    async def control_plane(self) -> tuple[dict[int, ControlPlaneStatus], Missing] | None:
        """Get the status of the control plane in each worker; None if there is no control plane."""
        own = self.worker_status.control_plane
        if own is None:
            return None
        from trio_gw.control_plane.status import ControlPlaneStatus

        responses, missing = await self._others(GetControlPlane(), RPC_TIMEOUT)
        found = {
            index + 1: status
            for index, status in self._decode(responses, ControlPlaneStatus, missing).items()
        }
        found[self.worker_status.number] = own
        return dict(sorted(found.items())), missing

    async def refresh_registry(self) -> Missing:
        """Let all workers read the registry of applications again. Returns who did not answer."""
        _, missing = await self._others(RefreshRegistry(), RPC_TIMEOUT)
        return missing

    async def stats(self) -> tuple[Snapshot, Missing] | None:
        """Add the current counts of all workers; None if metrics are disabled.

        For a worker that does not respond, its last published counts are used, up to a second older
        than its last response.
        """
        metrics = self.worker_status.metrics
        if metrics is None:
            return None
        fresh, missing = await self._others(GetStats(), RPC_TIMEOUT)
        snapshots = [metrics.snapshot()]
        shown = metrics.shown()
        states = self.shared_state.states()
        for index, page in shown.items():
            # A worker that has ended in the meantime has left its page.
            here = index in fresh and states[index] not in _GONE
            snapshots.append(unpack(fresh[index]) if here else page)
        return merge(snapshots), missing

    async def ask(
        self,
        question: OperationRequest,
        kind: type[T],
        number: int,
        own: Callable[[OperationRequest], Awaitable[object]],
        within: float,
    ) -> tuple[dict[int, T], Missing]:
        """Ask this worker, which has this `number`, and the others at the same time.

        Returns the answers by number, and the missing workers.
        """
        found: dict[int, T] = {}

        async def answer() -> None:
            found[number] = await own(question)  # type: ignore[assignment]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            responses, missing = await self._others(question, within)
        for index, part in self._decode(responses, kind, missing).items():
            found[index + 1] = part
        return found, missing

    async def _others(
        self, question: RpcRequest | OperationRequest, within: float
    ) -> tuple[dict[int, bytes], Missing]:
        """Send a request to the others. Returns the responses by index, and the missing workers."""
        gone = [index for index, state in enumerate(self.shared_state.states()) if state in _GONE]
        asked = [index for index in self.rpc.others if index not in gone]
        hung = self.shared_state.unresponsive()
        if not asked:
            return {}, hung
        packet = msgspec.msgpack.encode(question)
        responses = await self.rpc.call(packet, asked, seconds=within)
        return responses, sorted(hung + [index + 1 for index in asked if index not in responses])

    def _decode(self, responses: dict[int, bytes], kind: type[T], missing: Missing) -> dict[int, T]:
        """Decode responses. A response that cannot be decoded counts as missing."""
        read = {}
        for index, answer in responses.items():
            try:
                read[index] = msgspec.msgpack.decode(answer, type=kind)
            except msgspec.DecodeError as error:
                log.error("worker %d sent an invalid response: %s", index + 1, error)
                missing.append(index + 1)
        return read
