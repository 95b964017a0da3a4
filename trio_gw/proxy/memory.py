"""Measures memory, and releases some before it runs out.

Several times a second it reads the memory of the cgroup and its limit, the address space of this
process and its limit (RLIMIT_AS), and the memory of all workers and the setting `limits.memory`.
Above a high-water mark new connections get 503, most connections without a request are closed, and
so are the clients and backends that do not read the data buffered for them, the largest first.
Close to the limit, new connections are closed when they are accepted.

Memory of closed connections is reused, but it may not return to the system. So new connections are
admitted again below the mark, and also when there are fewer connections than when the mark was
reached.
"""

from __future__ import annotations

import logging
import os
import resource
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode
from trio_gw.proxy import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trio_gw.guard.pending import Pending
    from trio_gw.proxy.descriptors import DescriptorBudget
    from trio_gw.proxy.sessions import Sessions

log = logging.getLogger("trio_gw.memory")

INTERVAL = 0.25  # seconds between two measurements
SHORT_INTERVAL = 0.05  # ... close to the mark
PART, FREE_PART = 8, 3  # kept free: 1/8 of the limit, at most 1/3 of what was free at start
ENDING = 12 << 10  # bytes needed to end a connection; all may end at the same moment
KEEP = 64  # pending connections that are kept
FEWER = 0.9  # of the connections at the mark are allowed until memory is available again
STALLED = 16 << 10  # a session with this many buffered bytes may be ended
SHED = 16  # of them, per measurement
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NO_LIMIT = 1 << 60  # cgroup v1 uses a number near 2**63 for no limit


class Gauge:
    """One memory limit, which may change, and the current use, in bytes. 0 means no limit."""

    def __init__(self, name: str, limit: Callable[[], int], used: Callable[[], int]) -> None:
        self.name = name
        self._limit = limit
        self._used = used
        self.limit = 0
        self.read()

    def read(self) -> None:
        """Measure."""
        self.used, limit = self._used(), self._limit()
        if limit != self.limit:
            self.limit = limit
            keep = max(0, min(limit // PART, (limit - self.used) // FREE_PART))
            self.high = limit - keep  # from here on new connections are refused,
            self.low = self.high - keep // 2  # until the use is below this one
            self.last = limit - keep // 2  # from here on they are closed at once
            self.near = self.high - keep

    def above(self, mark: str, owed: int = 0) -> bool:
        """Whether the use, plus what is owed, has reached one of the marks."""
        return self.limit > 0 and self.used + owed >= int(getattr(self, mark))


class Memory:
    """Watches the memory of one process. `short`: new connections are refused."""

    def __init__(
        self,
        gauges: tuple[Gauge, ...],
        sessions: Sessions,
        pending: Pending,
        budget: DescriptorBudget,
        stalled: Callable[[], Mapping[int, int]],
    ) -> None:
        """`stalled` returns how many bytes wait for a peer, by the `id` of a publishing lane."""
        self.gauges = gauges
        self.short = False
        self.shed = 0
        self._sessions = sessions
        self._pending = pending
        self._budget = budget
        self._stalled = stalled
        self._most = 0  # sessions allowed while memory is short
        self._peak = 0

    def check(self) -> None:
        """Raise `Refusal` (503) if there is no memory for one more connection."""
        if self.short and len(self._sessions) > self._most:
            raise refusals.exhausted("not enough for another connection", "memory")

    async def run(self) -> None:
        """Measure again and again, until cancelled."""
        while True:
            soon = self.measure()
            await trio.sleep(SHORT_INTERVAL if soon else INTERVAL)

    def measure(self) -> bool:
        """Measure, and release memory if needed. Returns whether to measure again soon."""
        for gauge in self.gauges:
            gauge.read()
        owed = len(self._sessions) * ENDING
        full = [gauge for gauge in self.gauges if gauge.above("high", owed)]
        if full:
            self._begin(full[0])
            while len(self._pending) > KEEP:
                self._pending.evict("memory")
            self._shed()
        elif self.short and not any(gauge.above("low", owed) for gauge in self.gauges):
            self.short = False
            log.warning("enough memory again: new connections are accepted")
        # With fewer connections than at the mark, the memory of the others can be reused.
        crowded = len(self._sessions) >= self._most
        self._budget.close(crowded and any(gauge.above("last", owed) for gauge in self.gauges))
        return any(gauge.above("near", owed) for gauge in self.gauges)

    def _begin(self, gauge: Gauge) -> None:
        if not self.short:
            self.short, self._peak, self._most = True, 0, len(self._sessions)
            log.error(
                "memory is short: %d of %d MiB (%s) are in use, %d connections are open;"
                " new ones are refused until there are fewer",
                *(gauge.used >> 20, gauge.limit >> 20, gauge.name, len(self._sessions)),
            )
        # Connections that end may need more memory for a moment; that does not lower the bound.
        if gauge.used > self._peak and len(self._sessions) >= self._most:
            self._peak = gauge.used
            self._most = int(len(self._sessions) * FEWER)

    def _shed(self) -> None:
        """End the sessions with the most buffered data."""
        waiting = self._stalled()
        sizes = [
            (waiting[id(session.publish)], session)
            for session in self._sessions
            if session.end_requested is None and waiting.get(id(session.publish), 0) >= STALLED
        ]
        sizes.sort(key=lambda one: one[0], reverse=True)
        for _, session in sizes[:SHED]:
            session.end(CloseCode.TRY_AGAIN, "gateway is short of memory")
            self.shed += 1
        if sizes:
            log.warning("ended %d connections that do not read", len(sizes[:SHED]))


def gauges(limit: int, total: Callable[[int], int]) -> tuple[Gauge, ...]:
    """Find the memory limits of this process; `limit` is the one of the settings, 0 is none.

    `total` takes the memory of this process and returns that of all workers.
    """
    resident = _KernelNumber("/proc/self/statm", 1, _PAGE)
    found = [Gauge("RLIMIT_AS", _address_space, _KernelNumber("/proc/self/statm", 0, _PAGE))]
    if limit:
        found.append(Gauge("limits.memory", lambda: limit, lambda: total(resident())))
    if (group := cgroup()) is not None:
        found.append(Gauge("cgroup", group.limit, group))
    return tuple(found)


def _address_space() -> int:
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if space == resource.RLIM_INFINITY else space


def cgroup(
    listed: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Cgroup | None:
    """Find the smallest memory limit of the cgroups of this process, version 2 or 1.

    Returns None if there is no limit.
    """
    try:
        lines = [line.split(":", 2) for line in listed.read_text().splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, path in lines:
        if not controllers:
            base, names, cache = root, ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            cache = "total_inactive_file"
        else:
            continue
        here = Path(path.strip("/"))
        # In a container the path may be the one outside; then its own group is the root.
        for part in (here, *here.parents):
            folder = base / part
            try:
                most = int((folder / names[0]).read_text())
                int((folder / names[1]).read_text())
            except (OSError, ValueError):  # does not exist, or "max"
                continue
            if 0 < most < _NO_LIMIT:
                found.append((most, folder, names, cache))
    if not found:
        return None
    _, folder, names, cache = min(found, key=lambda one: one[0])
    return Cgroup(folder / names[0], folder / names[1], folder / "memory.stat", cache)


class _KernelNumber:
    """A number in a file of the kernel, in bytes. The file is kept open."""

    def __init__(self, path: str | Path, field: int = 0, unit: int = 1) -> None:
        self._field = field
        self._unit = unit
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def __call__(self) -> int:
        return int(os.pread(self._file, 100, 0).split()[self._field]) * self._unit


class Cgroup:
    """A cgroup: its use without the file cache that can be reclaimed. Its files are kept open."""

    def __init__(self, limit: Path, current: Path, stat: Path, cache: str) -> None:
        self._limit = _KernelNumber(limit)
        self._current = _KernelNumber(current)
        self._stat = os.open(stat, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._stat)
        self._cache = f"\n{cache} ".encode()

    def limit(self) -> int:
        """Read the limit, which may change; 0 is none."""
        try:
            most = self._limit()
        except ValueError:  # "max"
            return 0
        return most if most < _NO_LIMIT else 0

    def __call__(self) -> int:
        """Read the current use."""
        _, _, rest = os.pread(self._stat, 8192, 0).partition(self._cache)
        return self._current() - int(rest.partition(b"\n")[0] or 0)
