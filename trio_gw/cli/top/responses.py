"""The responses of the admin API, and rates from two of them. Pure.

Rates of APIs and totals are the difference of two responses of `/admin/stats`, divided by the time
between them on the gateway's clock. The gateway measures the rates of connections itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.errors import Problem  # noqa: TC001 - msgspec needs it

if TYPE_CHECKING:
    from collections.abc import Sequence


class Way(msgspec.Struct, frozen=True):
    """The counters of one direction."""

    messages: int = 0
    bytes: int = 0
    messages_per_second: float = 0.0
    bytes_per_second: float = 0.0


class Api(msgspec.Struct, frozen=True):
    """The counters of one API. Without a name: requests for unknown APIs."""

    api: str
    version: str
    open: int = 0
    opened: int = 0
    refused: int = 0
    throttled: int = 0
    into: Way = msgspec.field(name="in", default=Way())
    out: Way = Way()

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.api}:{self.version}" if self.version else self.api or "(no such API)"


class Worker(msgspec.Struct, frozen=True):
    """One worker process."""

    worker: int
    state: str
    connections: int
    accepted: int


class Stats(msgspec.Struct, frozen=True):
    """A response of `/admin/stats`; `apis` is None if metrics are turned off."""

    version: str
    clock: float
    uptime: float
    workers: list[Worker]
    missing: list[int]
    apis: list[Api] | None = None


class Connection(msgspec.Struct, frozen=True):
    """One connection in a response of `/admin/connections`."""

    id: str
    peer: str
    seconds: float
    request: str
    worker: int
    publish: Way
    subscribe: Way
    dropped: int = 0
    api: str | None = None
    topic: str | None = None
    subject: str | None = None
    application: str | None = None

    @property
    def who(self) -> str:
        """Return the best known name of the client."""
        return " ".join(name for name in (self.subject, self.peer, self.application) if name)


class Listing(msgspec.Struct, frozen=True):
    """A response of `/admin/connections`."""

    total: int
    matching: int
    connections: list[Connection]
    missing: list[int]


class Pull(msgspec.Struct, frozen=True):
    """The pulls in a response of `/admin/control-plane`."""

    running: bool
    error: str | None = None


class Broker(msgspec.Struct, frozen=True):
    """A broker in a response of `/admin/control-plane`."""

    address: str
    connected: bool


class PlaneWorker(msgspec.Struct, frozen=True):
    """One worker in a response of `/admin/control-plane`."""

    served: dict[str, int]


class Plane(msgspec.Struct, frozen=True):
    """A response of `/admin/control-plane`; what only the follower knows is None without it."""

    follower: int | None
    current: bool | None
    stale_seconds: float | None
    from_cache: bool | None
    pull: Pull | None
    brokers: list[Broker] | None
    events: dict[str, dict[str, int]] | None
    workers: list[PlaneWorker]

    @property
    def event_count(self) -> int:
        """The number of events so far."""
        return sum(sum(results.values()) for results in (self.events or {}).values())


class Answers(msgspec.Struct, frozen=True):
    """All responses of one update; `plane` is None without a control plane."""

    stats: Stats
    listing: Listing
    problems: list[Problem]
    plane: Plane | None = None


class ApiRates(msgspec.Struct, frozen=True, kw_only=True):
    """One API and its rates."""

    name: str
    connections: int
    messages_in: float
    messages_out: float
    bytes: float
    throttled: float
    refused: int


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the view shows."""

    version: str
    uptime: float
    workers: int
    ready: int
    connections: int
    matching: int
    accepts: float | None = None
    total: ApiRates | None = None
    apis: list[ApiRates] | None = None
    busiest: list[Connection]
    problems: list[Problem]
    missing: list[int]
    plane: Plane | None = None


def picture(before: Stats | None, now: Answers) -> Picture:
    """Compare with the response `before`; without it there are no rates yet."""
    stats, listing = now.stats, now.listing
    seconds = 0.0 if before is None else stats.clock - before.clock
    accepts, total, apis = None, None, None
    if before is not None and seconds > 0:
        past = {one.worker: one.accepted for one in before.workers}
        came = sum(_since(one.accepted, past.get(one.worker, 0)) for one in stats.workers)
        accepts = came / seconds
    if stats.apis is not None:
        old = {} if before is None else {one.title: one for one in before.apis or ()}
        apis = [_rates(one, old.get(one.title), seconds) for one in stats.apis]
        total = _sum(apis)
        apis = [one for one in apis if one.name != "(no such API)" or one.refused]
    return Picture(
        version=stats.version,
        uptime=stats.uptime,
        workers=len(stats.workers),
        ready=sum(one.state == "ready" for one in stats.workers),
        connections=listing.total,
        matching=listing.matching,
        accepts=accepts,
        total=total,
        apis=apis,
        busiest=listing.connections,
        problems=now.problems,
        missing=sorted({*stats.missing, *listing.missing}),
        plane=now.plane,
    )


def _since(count: int, before: int) -> int:
    """Return the difference; a counter that is smaller than before was reset."""
    return count - before if count >= before else count


def _rates(now: Api, before: Api | None, seconds: float) -> ApiRates:
    # A new API started at zero; before the first update nothing is known.
    old = before or Api(now.api, now.version)

    def rate(count: int, past: int) -> float:
        return _since(count, past) / seconds if seconds > 0 else 0.0

    octets_in = rate(now.into.bytes, old.into.bytes)
    return ApiRates(
        name=now.title,
        connections=now.open,
        messages_in=rate(now.into.messages, old.into.messages),
        messages_out=rate(now.out.messages, old.out.messages),
        bytes=octets_in + rate(now.out.bytes, old.out.bytes),
        throttled=rate(now.throttled, old.throttled),
        refused=now.refused,
    )


def _sum(apis: Sequence[ApiRates]) -> ApiRates:
    return ApiRates(
        name="",
        connections=sum(one.connections for one in apis),
        messages_in=sum(one.messages_in for one in apis),
        messages_out=sum(one.messages_out for one in apis),
        bytes=sum(one.bytes for one in apis),
        throttled=sum(one.throttled for one in apis),
        refused=sum(one.refused for one in apis),
    )
