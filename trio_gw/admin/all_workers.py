"""Adds up the answers of all workers for the operator's pages.

Every worker gives the same answer, whichever is asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from trio_gw.admin.aggregate import RPC_TIMEOUT
from trio_gw.admin.operation_messages import (
    BackendHealth,
    CapUse,
    CloseMatching,
    EndingPart,
    FullTier,
    GetBackends,
    GetEndings,
    GetHistory,
    GetLimits,
    GetLog,
    GetTraffic,
    HistoryPart,
    LimitPart,
    LogPart,
)
from trio_gw.telemetry.history import Series, merge
from trio_gw.telemetry.log_ring import LINES

if TYPE_CHECKING:
    from trio_gw.admin.aggregate import Aggregate, Missing
    from trio_gw.admin.operation_messages import GaugeUse, OperationRequest
    from trio_gw.admin.worker_operation import WorkerOperation
    from trio_gw.proxy.ending_log import EndingRow
    from trio_gw.telemetry.history import Span
    from trio_gw.telemetry.log_ring import ShownLine

T = TypeVar("T")


class HistoryAnswer(NamedTuple):
    """A series of all workers, None if there is none, and since when it goes back."""

    series: Series | None
    since: float
    traffic: dict[str, list[float]]
    missing: Missing


class EndingsAnswer(NamedTuple):
    """Endings of all workers in their order, each with its worker; `serials` to go on from."""

    rows: list[tuple[int, EndingRow]]
    lost: int
    serials: dict[int, int]
    missing: Missing


class LimitsAnswer(NamedTuple):
    """The limits that are reached."""

    tiers: list[FullTier]
    caps: list[CapUse]
    gauges: list[GaugeUse]
    missing: Missing


class BackendState(NamedTuple):
    """A backend as all workers see it: it is down if one of them could not reach it.

    `since` is the time of the last change. `down` and `up` are numbers of workers.
    """

    origin: str
    healthy: bool
    since: float
    failures: int
    checked: bool
    down: list[int]
    up: list[int]
    apis: list[str]


class AllWorkers(NamedTuple):
    """This worker and the others."""

    own: WorkerOperation
    aggregate: Aggregate

    async def history(
        self, span: Span, api: tuple[str, str] | None = None, count: int = 0
    ) -> HistoryAnswer:
        """Return the history of all workers, or of one API in all workers."""
        parts, missing = await self._ask(GetHistory(span, api, count), HistoryPart)
        return _joined(parts, missing)

    async def traffic(self) -> HistoryAnswer:
        """Return the last seconds, and the traffic of each API."""
        parts, missing = await self._ask(GetTraffic(), HistoryPart)
        return _joined(parts, missing)

    async def endings(self, after: dict[int, int] | None = None) -> EndingsAnswer:
        """Return the endings after these serials."""
        before = after or {}
        parts, missing = await self._ask(GetEndings(before), EndingPart)
        rows = [(worker, row) for worker, part in parts.items() for row in part.rows]
        rows.sort(key=lambda one: one[1].at)
        serials = {**before, **{worker: part.serial for worker, part in parts.items()}}
        return EndingsAnswer(rows, sum(part.lost for part in parts.values()), serials, missing)

    async def log(self, asked: GetLog) -> tuple[list[ShownLine], Missing]:
        """Return the last lines."""
        parts, missing = await self._ask(asked, LogPart)
        lines = sorted((line for part in parts.values() for line in part), key=lambda one: one.at)
        return lines[-LINES:], missing

    async def limits(self) -> LimitsAnswer:
        """Return the limits that are reached, each once."""
        parts, missing = await self._ask(GetLimits(), LimitPart)
        tiers = {one: None for part in parts.values() for one in part.tiers}
        caps: dict[tuple[str, str], CapUse] = {}
        for one in (one for part in parts.values() for one in part.caps):
            key = one.level, one.key
            if key not in caps or caps[key].open < one.open:
                caps[key] = one
        gauges = [gauge for part in parts.values() for gauge in part.gauges]
        ordered = sorted(tiers, key=lambda one: (one.until, one.level, one.key))
        return LimitsAnswer(ordered, list(caps.values()), gauges, missing)

    async def backends(self) -> tuple[list[BackendState], Missing]:
        """Return the backends that were used, those that are down first."""
        parts, missing = await self._ask(GetBackends(), list[BackendHealth])
        seen: dict[str, dict[int, list[BackendHealth]]] = {}
        for worker, rows in parts.items():
            for one in rows:
                seen.setdefault(one.origin, {}).setdefault(worker, []).append(one)
        found = [_backend(origin, by_worker) for origin, by_worker in seen.items()]
        return sorted(found, key=lambda one: (one.healthy, one.origin)), missing

    async def close(
        self, match: str, code: int, reason: str, expect: int | None
    ) -> tuple[int, int, Missing]:
        """Close all connections that match. Returns how many matched, and how many were closed.

        None is closed if another number matches than is expected; with code 0 they are only
        counted. Connections that were opened later stay open.
        """
        before = time.time()
        counted, missing = await self._ask(CloseMatching(match, before), int)
        matching = sum(counted.values())
        if not code or missing or matching != expect:
            return matching, 0, missing
        within = RPC_TIMEOUT + self.own.services.settings.timeouts.drain
        closed, missing = await self._ask(CloseMatching(match, before, code, reason), int, within)
        return matching, sum(closed.values()), missing

    async def _ask(
        self, asked: OperationRequest, kind: type[T], within: float = RPC_TIMEOUT
    ) -> tuple[dict[int, T], Missing]:
        """Ask all workers at the same time. Returns the answers by the number of the worker."""
        return await self.aggregate.ask(asked, kind, self.own.number, self.own.answer, within)


def _joined(parts: dict[int, HistoryPart], missing: Missing) -> HistoryAnswer:
    series = merge(part.series for part in parts.values() if part.series is not None)
    traffic: dict[str, list[float]] = {}
    for part in parts.values():
        for api, numbers in part.traffic.items():
            before = traffic.get(api)
            traffic[api] = (
                numbers
                if before is None
                else [one + other for one, other in zip(before, numbers, strict=True)]
            )
    since = min((part.since for part in parts.values() if part.since), default=0.0)
    return HistoryAnswer(series, since, traffic, missing)


def _backend(origin: str, by_worker: dict[int, list[BackendHealth]]) -> BackendState:
    rows = [one for found in by_worker.values() for one in found]
    down = sorted(n for n, found in by_worker.items() if not all(one.healthy for one in found))
    telling = [one for one in rows if not one.healthy] or rows
    return BackendState(
        origin,
        not down,
        (min if down else max)(one.since for one in telling),
        max(one.failures for one in telling),
        any(one.checked for one in rows),
        down,
        sorted(by_worker.keys() - set(down)),
        sorted({api for one in rows for api in one.apis}),
    )
