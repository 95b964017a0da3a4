"""What all event streams of a worker need, asked for once a second for all of them together."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from trio_gw.telemetry.history import API_STEP

if TYPE_CHECKING:
    from trio_gw.admin.aggregate import Aggregate
    from trio_gw.admin.all_workers import AllWorkers
    from trio_gw.proxy.ending_log import EndingRow

FRESH = 0.9  # seconds for which an answer is used
PROBLEMS_FRESH = 3.0
MAX_ROWS = 4000  # endings of all workers
MAX_APIS = 2000  # with numbers in an event
_GAP = 1_000_000  # serials; a larger step is a restart of the worker


class LiveFeed:
    """The current numbers, problems and endings. Without streams it does nothing."""

    def __init__(self, workers: AllWorkers, aggregate: Aggregate) -> None:
        self._workers = workers
        self._aggregate = aggregate
        self._lock = trio.Lock()
        self._stats: dict[str, Any] | None = None
        self._stats_at = self._problems_at = self._endings_at = float("-inf")
        self._problems: dict[str, Any] = {}
        self._rows: deque[tuple[int, EndingRow]] = deque(maxlen=MAX_ROWS)
        self._serials: dict[int, int] = {}

    async def stats(self) -> dict[str, Any] | None:
        """Return the numbers of the last second: totals, and open, messages/s, bytes/s by API.

        None if metrics are turned off, or nothing is known yet.
        """
        async with self._lock:
            if trio.current_time() - self._stats_at > FRESH:
                found = await self._workers.traffic()
                self._stats_at = trio.current_time()
                if found.series is not None:
                    last = {name: values[-1] for name, values in found.series.columns.items()}
                    busy = sorted(found.traffic.items(), key=lambda one: -one[1][1])[:MAX_APIS]
                    self._stats = {
                        "at": found.series.last,
                        "totals": last,
                        "apis": {
                            name: [row[0], row[1] / API_STEP, row[2] / API_STEP]
                            for name, row in busy
                        },
                    }
        return self._stats

    async def problems(self) -> dict[str, Any]:
        """Count the problems, and name workers that do not respond."""
        async with self._lock:
            if trio.current_time() - self._problems_at > PROBLEMS_FRESH:
                found, missing = await self._aggregate.problems()
                self._problems_at = trio.current_time()
                errors = sum(problem.severity == "error" for problem in found)
                self._problems = {
                    "errors": errors,
                    "warnings": len(found) - errors,
                    "missing": missing,
                    "digest": hash(msgspec.json.encode(found)) & 0xFFFF_FFFF,
                }
        return self._problems

    async def endings(
        self, after: dict[int, int]
    ) -> tuple[list[tuple[int, EndingRow]], int, dict[int, int]]:
        """Return what ended after these serials, how many are lost, and serials to go on from."""
        async with self._lock:
            if trio.current_time() - self._endings_at > FRESH:
                found = await self._workers.endings(self._serials)
                self._endings_at = trio.current_time()
                self._serials = found.serials
                self._rows += found.rows
        rows = [one for one in self._rows if one[1].serial > after.get(one[0], 0)]
        lost = 0
        for worker, last in self._serials.items():
            passed = last - after.get(worker, last)
            if 0 < passed < _GAP:
                lost += passed - sum(one[0] == worker for one in rows)
        return rows, max(0, lost), dict(self._serials)
