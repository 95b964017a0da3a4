"""What workers ask each other for the operator's pages, and the answers: plain values."""

from __future__ import annotations

import msgspec

from trio_gw.proxy.ending_log import EndingRow  # noqa: TC001 - needed to decode
from trio_gw.telemetry.history import Series, Span  # noqa: TC001
from trio_gw.telemetry.log_ring import ShownLine

LONGEST_MATCH = 200  # characters


class GetHistory(msgspec.Struct, frozen=True, tag=True):
    """Get the last `count` steps of a span, 0 for all; of one API if it is named."""

    span: Span = "5m"
    api: tuple[str, str] | None = None
    count: int = 0


class HistoryPart(msgspec.Struct, frozen=True):
    """The history of one worker; it begins at `since`. None if metrics are turned off."""

    series: Series | None
    since: float
    traffic: dict[str, list[float]] = {}


class GetTraffic(msgspec.Struct, frozen=True, tag=True):
    """Get the last `count` seconds, and the traffic of each API. Answered by a `HistoryPart`."""

    count: int = 3


class GetEndings(msgspec.Struct, frozen=True, tag=True):
    """Get the connections that ended after these serials, by worker; all that are kept if 0."""

    after: dict[int, int] = {}


class EndingPart(msgspec.Struct, frozen=True):
    """Endings of one worker; `lost` are no longer kept; `serial` is that of the last one."""

    rows: list[EndingRow]
    lost: int
    serial: int


class GetLog(msgspec.Struct, frozen=True, tag=True):
    """Get the last log lines from this level on."""

    level: int = 0
    logger: str = ""
    match: str = ""


LogPart = list[ShownLine]


class GetLimits(msgspec.Struct, frozen=True, tag=True):
    """Get the limits that are reached."""


class FullTier(msgspec.Struct, frozen=True):
    """A tier that is full for a key, until this time (epoch seconds)."""

    level: str
    key: str
    way: str
    tier: str
    rule: str
    action: str
    until: float


class CapUse(msgspec.Struct, frozen=True):
    """A cap on connections that is reached for a key."""

    level: str
    key: str
    open: int
    most: int


class GaugeUse(msgspec.Struct, frozen=True):
    """How much of a limit of a worker is used; `unit` is `bytes` or a plural."""

    name: str
    worker: int
    used: float
    most: float
    unit: str


class LimitPart(msgspec.Struct, frozen=True):
    """The limits that are reached, as one worker knows."""

    tiers: list[FullTier]
    caps: list[CapUse]
    gauges: list[GaugeUse]


class GetBackends(msgspec.Struct, frozen=True, tag=True):
    """Get the health of the backends that were used. The answer is a list of `BackendHealth`."""


class BackendHealth(msgspec.Struct, frozen=True):
    """The health of a backend of some APIs in one worker, since when, and how it is known."""

    origin: str
    healthy: bool
    since: float
    failures: int
    checked: bool
    apis: list[str]


class CloseMatching(msgspec.Struct, frozen=True, tag=True):
    """Close the connections that match and were opened before a time (epoch seconds).

    With code 0 they are only counted. The response is their number.
    """

    match: str
    before: float
    code: int = 0
    reason: str = ""


OperationRequest = (
    GetHistory | GetTraffic | GetEndings | GetLog | GetLimits | GetBackends | CloseMatching
)
