"""Measures this process, its backends and its route table, for the metrics."""

from __future__ import annotations

import errno
import os
import resource
import time
from typing import TYPE_CHECKING

from trio_gw.config.conditions import KINDS
from trio_gw.telemetry import families

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.errors import Problem
    from trio_gw.proxy.balancer import Balancers
    from trio_gw.proxy.services import Services
    from trio_gw.telemetry.metrics import Metrics

REASONS = ("address", "all", "closed", "descriptors", "memory")  # of evictions
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessGauges:
    """Measures this process, its backends and its route table at each collection."""

    def __init__(
        self,
        metrics: Metrics,
        services: Services,
        balancers: Balancers,
        problems: Callable[[], tuple[Problem, ...]],
    ) -> None:
        self._metrics = metrics
        self._live = services.live
        self._balancers = balancers
        self._problems = problems
        self._blocklist = services.blocklist
        self._pending = services.pending
        self._memory = services.memory
        self._limiter_factory = services.limiter_factory
        self._tls_failures = services.tls_failures
        self._started = time.time()
        metrics.probes.append(self._collect)

    def _collect(self) -> None:
        metrics, worker = self._metrics, (self._metrics.worker,)
        metrics.put(families.RELOADS, worker, self._live.generation)
        metrics.put(families.APIS, worker, len(self._live.table.apis))
        found = [problem.severity for problem in self._problems()]
        for severity in ("error", "warning"):
            metrics.put(families.PROBLEMS, (severity, *worker), found.count(severity))
        for kind in KINDS:
            count = sum(denials.counts[kind] for denials in self._blocklist.current)
            metrics.put(families.CONDITIONS, (kind, *worker), count)
        metrics.put(families.PENDING, worker, len(self._pending))
        for reason in REASONS:
            metrics.put(families.EVICTED, (reason, *worker), self._pending.evicted[reason])
        self._tls_failures.log_suppressed()
        for (listener, reason), count in self._tls_failures.refused.items():
            metrics.put(families.TLS_FAILED, (listener, reason, *worker), count)
        for gauge in self._memory.gauges:
            if not gauge.limit:
                continue
            metrics.put(families.MEMORY_USED, (gauge.name, *worker), gauge.used)
            metrics.put(families.MEMORY_LIMIT, (gauge.name, *worker), gauge.limit)
        metrics.put(families.OVERLOADED, worker, int(self._memory.short))
        metrics.put(families.SHED, worker, self._memory.shed)
        metrics.put(families.SHARED_KEYS, worker, self._limiter_factory.shared_keys)
        metrics.clear(families.BACKEND_UP)
        for name, healthy in self._balancers.health():
            metrics.put(families.BACKEND_UP, (name, *worker), int(healthy))
        times = os.times()
        metrics.put(families.CPU, worker, times.user + times.system)
        metrics.put(families.STARTED, worker, self._started)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        metrics.put(families.MOST_DESCRIPTORS, worker, most)
        try:
            metrics.put(families.DESCRIPTORS, worker, len(os.listdir("/proc/self/fd")))
            metrics.put(families.MEMORY, worker, resident_memory())
        except OSError as error:
            # There is no `/proc`, or no descriptor is left to open it.
            if error.errno == errno.EMFILE:
                metrics.put(families.DESCRIPTORS, worker, most)


def resident_memory() -> int:
    """Return the resident memory of this process in bytes; 0 if it cannot be read."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0
