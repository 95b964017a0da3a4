"""The requests that workers send each other about their state, and the responses: plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Sort = Literal["age", "bytes", "dropped", "messages", "rate"]
MOST_LISTED = 10_000  # connections in one response
LISTED = 1000  # default


class ListConnections(msgspec.Struct, frozen=True, tag=True):
    """List connections: the first `limit` in this order of those that `match`.

    For `sample` seconds their traffic is measured, to compute rates.
    """

    limit: int = LISTED
    sort: Sort = "age"
    match: str = ""
    sample: float = 0.0


class CloseConnection(msgspec.Struct, frozen=True, tag=True):
    """Close the connection with this id. The response tells whether it was found."""

    id: str
    code: int
    reason: str


class ListProblems(msgspec.Struct, frozen=True, tag=True):
    """List the problems with the projects."""


class GetStats(msgspec.Struct, frozen=True, tag=True):
    """Get all counts. The response is a snapshot, packed by `telemetry.metrics`."""


class GetControlPlane(msgspec.Struct, frozen=True, tag=True):
    """Get the status of the control plane. The response is a `ControlPlaneStatus`."""


class RefreshRegistry(msgspec.Struct, frozen=True, tag=True):
    """Read the registry of applications again. The response comes when it is in force."""


RpcRequest = (
    ListConnections | CloseConnection | ListProblems | GetStats | GetControlPlane | RefreshRegistry
)


class DirectionStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """Traffic from one side; rates only if traffic was measured."""

    messages: int
    frames: int
    bytes: int
    messages_per_second: float | None = None
    bytes_per_second: float | None = None


class ConnectionInfo(msgspec.Struct, frozen=True):
    """One open connection."""

    id: str
    peer: str
    since: str
    seconds: float
    request: str
    api: str | None
    topic: str | None
    subject: str | None
    application: str | None
    expires: str | None
    worker: int
    dropped: int
    publish: DirectionStats
    subscribe: DirectionStats
    address: str = ""  # of the client, behind trusted proxies
    backend: str = ""
    user_agent: str = ""
    closing: bool = False


class ConnectionList(msgspec.Struct, frozen=True):
    """The number of open connections, the number that match, and the first of those."""

    total: int
    matching: int
    connections: list[ConnectionInfo]


_ORDERS: dict[Sort, Callable[[ConnectionInfo], float]] = {
    "age": lambda one: one.seconds,
    "bytes": lambda one: one.publish.bytes + one.subscribe.bytes,
    "dropped": lambda one: one.dropped,
    "messages": lambda one: one.publish.messages + one.subscribe.messages,
    "rate": lambda one: sum(way.bytes_per_second or 0 for way in (one.publish, one.subscribe)),
}
ORDERS = tuple(_ORDERS)


def sort_connections(connections: list[ConnectionInfo], sort: Sort) -> list[ConnectionInfo]:
    """Sort with the oldest, busiest, ... first."""
    return sorted(connections, key=_ORDERS[sort], reverse=True)
