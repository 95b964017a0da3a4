"""What one worker answers for the operator's pages: history, endings, log, limits, backends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from trio_gw.admin.matching import Matcher
from trio_gw.admin.operation_messages import (
    BackendHealth,
    CapUse,
    CloseMatching,
    EndingPart,
    FullTier,
    GaugeUse,
    GetBackends,
    GetEndings,
    GetHistory,
    GetLimits,
    GetLog,
    GetTraffic,
    HistoryPart,
    LimitPart,
    OperationRequest,
)
from trio_gw.telemetry import log_ring

if TYPE_CHECKING:
    from trio_gw.config.api import Cluster
    from trio_gw.proxy.balancer import Balancers
    from trio_gw.proxy.ending_log import EndingLog
    from trio_gw.proxy.services import Services
    from trio_gw.proxy.sessions import Session
    from trio_gw.telemetry.history import History
    from trio_gw.telemetry.log_ring import ShownLine

BATCH = 500  # connections to look at before other tasks run
MAX_APIS = 20  # named per backend


class WorkerOperation(NamedTuple):
    """What an operator may ask the worker with this `number`."""

    number: int
    services: Services
    balancers: Balancers
    endings: EndingLog
    history: History | None

    async def handle(self, asked: OperationRequest) -> bytes:
        """Answer the request of another worker."""
        return msgspec.msgpack.encode(await self.answer(asked))

    async def answer(self, asked: OperationRequest) -> object:
        """Answer a request."""
        match asked:
            case GetHistory():
                return self._history(asked)
            case GetTraffic():
                return self._traffic(asked)
            case GetEndings():
                return self._endings(asked)
            case GetLog():
                return self._log(asked)
            case GetLimits():
                return self._limits()
            case GetBackends():
                return self._backends()
            case CloseMatching():
                return await self._close(asked)

    def _history(self, asked: GetHistory) -> HistoryPart:
        kept = self.history
        if kept is None:
            return HistoryPart(None, 0.0)
        if asked.api is not None:
            return HistoryPart(kept.of(asked.api, asked.count), kept.since)
        return HistoryPart(kept.totals(asked.span, asked.count), kept.since)

    def _traffic(self, asked: GetTraffic) -> HistoryPart:
        kept = self.history
        if kept is None:
            return HistoryPart(None, 0.0)
        return HistoryPart(kept.totals("5m", asked.count), kept.since, kept.traffic())

    def _endings(self, asked: GetEndings) -> EndingPart:
        rows, lost = self.endings.after(asked.after.get(self.number, 0))
        return EndingPart(rows, lost, self.endings.serial)

    def _log(self, asked: GetLog) -> list[ShownLine]:
        return log_ring.ring.shown(self.number, asked.level, asked.logger, asked.match)

    def _limits(self) -> LimitPart:
        services, number = self.services, self.number
        factory = services.limiter_factory
        tiers = [
            FullTier(
                one.level,
                one.key,
                one.way,
                one.tier.name,
                str(one.tier),
                one.tier.on_exceed,
                one.until,
            )
            for one in factory.full()
        ]
        caps = [CapUse(cap.name, cap.key, count, cap.most) for cap, count in factory.full_caps()]
        gauges = [
            GaugeUse(f"memory: {one.name}", number, one.used, one.limit, "bytes")
            for one in services.memory.gauges
            if one.limit
        ]
        if most := services.settings.limits.pending:
            gauges.append(
                GaugeUse("connections without a request", number, len(services.pending), most, "")
            )
        return LimitPart(tiers, caps, gauges)

    def _backends(self) -> list[BackendHealth]:
        users: dict[Cluster, list[str]] = {}
        for api in self.services.live.table.apis.values():
            for cluster in (api.project.production, api.project.sandbox):
                if cluster is not None:
                    users.setdefault(cluster, []).append(api.project.title)
        return [
            BackendHealth(*one, apis=list(dict.fromkeys(users.get(cluster, ())))[:MAX_APIS])
            for cluster, one in self.balancers.details()
        ]

    async def _close(self, asked: CloseMatching) -> int:
        """Count, or close, spread over time as all ends of many connections are."""
        matches, found = Matcher(asked.match), []
        oldest = trio.current_time() - (time.time() - asked.before)
        for place, session in enumerate(self.services.sessions):
            if place % BATCH == 0:
                await trio.lowlevel.checkpoint()
            if _open_before(session, oldest) and matches(session):
                found.append(session)
        if asked.code:
            await self.services.sessions.end(found, asked.code, asked.reason)
        return len(found)


def _open_before(session: Session, when: float) -> bool:
    """Return whether a session is a WebSocket that stays open, and was opened before a time."""
    return (
        session.publish is not None
        and session.end_requested is None
        and session.ending is None
        and session.opened_at <= when
    )
