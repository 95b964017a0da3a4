"""What one worker is asked about itself, and what it answers: plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Sort = Literal["age", "bytes", "dropped", "messages", "rate"]
MOST_LISTED = 10_000  # connections in one answer
LISTED = 1000  # unless more are asked for


class ListConnections(msgspec.Struct, frozen=True, tag=True):
    """Who is connected? The first `limit` in this order of those that `match`.

    `sample` is for how many seconds their traffic is watched, to tell how busy they are.
    """

    limit: int = LISTED
    sort: Sort = "age"
    match: str = ""
    sample: float = 0.0


class CloseConnection(msgspec.Struct, frozen=True, tag=True):
    """End the connection with this id. Answered with whether there is one."""

    id: str
    code: int
    reason: str


class ListProblems(msgspec.Struct, frozen=True, tag=True):
    """What is wrong with the projects?"""


class GetStats(msgspec.Struct, frozen=True, tag=True):
    """What has been counted? Answered with a snapshot as `telemetry.metrics` packs it."""


RpcRequest = ListConnections | CloseConnection | ListProblems | GetStats


class DirectionStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has come from one side; per second only where traffic was watched."""

    messages: int
    frames: int
    bytes: int
    messages_per_second: float | None = None
    bytes_per_second: float | None = None


class ConnectionInfo(msgspec.Struct, frozen=True):
    """One connection that is open."""

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


class ConnectionList(msgspec.Struct, frozen=True):
    """How many are open, how many of them match, and the first of those."""

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
    """Put the oldest, busiest, … first."""
    return sorted(connections, key=_ORDERS[sort], reverse=True)
