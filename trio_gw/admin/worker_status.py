"""What one worker reports about itself: connections, problems, counts."""

from __future__ import annotations

import time
from heapq import nlargest
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from trio_gw.admin.matching import Matcher, names
from trio_gw.admin.operation_messages import OperationRequest
from trio_gw.admin.rpc_messages import (
    CloseConnection,
    ConnectionInfo,
    ConnectionList,
    DirectionStats,
    GetControlPlane,
    GetStats,
    ListConnections,
    ListProblems,
    RefreshRegistry,
    RpcRequest,
)
from trio_gw.admin.timestamps import iso
from trio_gw.telemetry.logs import cut
from trio_gw.telemetry.metrics import pack
from trio_gw.workers.rpc import MAX_RESPONSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_gw.admin.rpc_messages import Sort
    from trio_gw.admin.worker_operation import WorkerOperation
    from trio_gw.control_plane.status import ControlPlaneStatus
    from trio_gw.errors import Problem
    from trio_gw.feed.catalog import Catalog
    from trio_gw.feed.registry_source import RegistrySource
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.relay.lane import Lane
    from trio_gw.supervision.background import BackgroundTasks
    from trio_gw.telemetry.metrics import Metrics

_DECODER: msgspec.msgpack.Decoder[RpcRequest | OperationRequest]
_DECODER = msgspec.msgpack.Decoder(RpcRequest | OperationRequest)
_Counts = tuple[int, int, int, int]  # messages and octets from the client, and from the backend
_NOTHING: _Counts = (0, 0, 0, 0)
BATCH = 500  # connections to look at before other tasks run


class WorkerStatus(NamedTuple):
    """The status of the worker with this `number`.

    `metrics` is None if they are disabled, `control_plane` and `registry` if there is none.
    """

    number: int
    sessions: Sessions
    catalog: Catalog
    metrics: Metrics | None
    background: BackgroundTasks
    control_plane: ControlPlaneStatus | None = None
    operation: WorkerOperation | None = None
    registry: RegistrySource | None = None

    async def handle(self, asked: bytes) -> bytes:
        """Answer the request of another worker."""
        request = _DECODER.decode(asked)
        match request:
            case ListConnections():
                return _fitting(await self.connections(request))
            case CloseConnection():
                return msgspec.msgpack.encode(self.close(request))
            case ListProblems():
                return msgspec.msgpack.encode(self.problems())
            case GetStats():
                return b"" if self.metrics is None else pack(self.metrics.snapshot())
            case GetControlPlane():
                return msgspec.msgpack.encode(self.control_plane)
            case RefreshRegistry():
                if self.registry is not None:
                    await self.registry.refresh()
                return b""
            case _:
                assert self.operation is not None
                return await self.operation.handle(request)

    async def connections(self, asked: ListConnections) -> ConnectionList:
        """List relayed connections."""
        past: dict[Session, _Counts] = {}
        began = trio.current_time()
        if asked.sample:
            async for session in self._relayed():
                past[session] = _counts(session)
            await trio.sleep(asked.sample)
        seconds = trio.current_time() - began if asked.sample else 0.0
        matches, total = Matcher(asked.match), 0
        ranked: list[tuple[float, Session]] = []
        async for session in self._relayed():
            total += 1
            if matches(session):
                ranked.append((_rank(session, asked.sort, past.get(session, _NOTHING)), session))
        listed: list[ConnectionInfo] = []
        for _, session in nlargest(asked.limit, ranked, key=itemgetter(0)):
            if len(listed) % BATCH == 0:
                await trio.lowlevel.checkpoint()
            listed.append(self._connection(session, past.get(session, _NOTHING), seconds))
        return ConnectionList(total, len(ranked), listed)

    async def _relayed(self) -> AsyncIterator[Session]:
        """Iterate over the relayed connections; other tasks may run in between."""
        for place, session in enumerate(self.sessions):
            if place % BATCH == 0:
                await trio.lowlevel.checkpoint()
            if session.publish is not None:
                yield session

    def close(self, asked: CloseConnection) -> bool:
        """Ask a connection to end. Returns whether it is in this worker."""
        for session in self.sessions:
            if session.publish is not None and session.request_id == asked.id:
                session.end(asked.code, asked.reason)
                return True
        return False

    def problems(self) -> tuple[Problem, ...]:
        """List the problems with projects, control plane, applications and in this worker."""
        plane = () if self.control_plane is None else self.control_plane.all_problems()
        registry = () if self.registry is None else self.registry.problems
        return (*self.catalog.problems, *plane, *registry, *self.background.problems())

    def _connection(self, session: Session, past: _Counts, seconds: float) -> ConnectionInfo:
        """Describe a connection. Its rates are the traffic beyond `past` in the last `seconds`."""
        publish, subscribe, now = session.publish, session.subscribe, trio.current_time()
        assert publish is not None
        assert subscribe is not None
        api, topic, subject, application = (cut(text) or None for text in names(session))
        expires = None if session.caller is None else session.caller.expires_at
        return ConnectionInfo(
            id=session.request_id,
            peer=session.peer,
            since=iso(time.time() - (now - session.opened_at)),
            seconds=round(now - session.opened_at, 3),
            request=cut(session.request),
            api=api,
            topic=topic,
            subject=subject,
            application=application,
            expires=iso(expires) if expires else None,
            worker=self.number,
            dropped=session.dropped,
            publish=_direction_stats(publish, past[:2], seconds),
            subscribe=_direction_stats(subscribe, past[2:], seconds),
            address=session.info.address,
            backend=session.backend,
            user_agent=cut(session.info.user_agent),
            closing=session.end_requested is not None,
        )


def _fitting(listing: ConnectionList) -> bytes:
    """Encode a list, with fewer connections if it is too long."""
    while len(written := msgspec.msgpack.encode(listing)) > MAX_RESPONSE:
        fewer = listing.connections[: len(listing.connections) // 2]
        listing = ConnectionList(listing.total, listing.matching, fewer)
    return written


def _counts(session: Session) -> _Counts:
    publish, subscribe = session.publish, session.subscribe
    assert publish is not None
    assert subscribe is not None
    return publish.messages, publish.octets, subscribe.messages, subscribe.octets


def _rank(session: Session, sort: Sort, past: _Counts) -> float:
    """Return the sort key."""
    in_messages, in_octets, out_messages, out_octets = _counts(session)
    match sort:
        case "age":
            return -session.opened_at
        case "bytes":
            return in_octets + out_octets
        case "dropped":
            return session.dropped
        case "messages":
            return in_messages + out_messages
        case "rate":
            return in_octets - past[1] + out_octets - past[3]


def _direction_stats(lane: Lane, past: tuple[int, ...], seconds: float) -> DirectionStats:
    if not seconds:
        return DirectionStats(lane.messages, lane.frames, lane.octets)
    messages, octets = lane.messages - past[0], lane.octets - past[1]
    return DirectionStats(
        lane.messages,
        lane.frames,
        lane.octets,
        round(messages / seconds, 3),
        round(octets / seconds, 3),
    )
