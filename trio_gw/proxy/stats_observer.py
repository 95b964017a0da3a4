"""Counts connections, and measures this process. One observer per process.

The relay counts on its lanes, in plain integers. Opened and closed connections are counted per
topic. Once a second (`run`) and before each scrape, the differences since the last time are added
to the metrics.
"""

from __future__ import annotations

import errno
import os
import resource
import time
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.config.conditions import KINDS
from trio_gw.errors import Phase
from trio_gw.guard.refusals import BLOCKED
from trio_gw.proxy.access_log import ending_of
from trio_gw.telemetry import families

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.errors import Problem, Side
    from trio_gw.guard.counter import WindowCounter
    from trio_gw.guard.decisions import Decided
    from trio_gw.proxy.balancer import Balancers
    from trio_gw.proxy.services import Services
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.relay.lane import Lane
    from trio_gw.telemetry.metrics import Labels, Metrics

INTERVAL = 1.0  # seconds between two collections
BATCH = 64  # handshakes to add at a time; cheaper than one by one
MAX_CODES = 20  # application-defined close codes that have a series of their own, per topic
MAX_TOPICS = 1000  # topics with remembered codes
REASONS = ("address", "all", "closed", "descriptors", "memory")  # of evictions
_APPLICATION_CODES = range(3000, 5000)  # RFC 6455 §7.4.2
_IN, _OUT = "in", "out"
_PHASES = {phase: (phase.value,) for phase in Phase}  # as labels
_SWITCHED = "101"
_COUNTERS = (families.FRAMES, families.MESSAGES, families.OCTETS, families.PAYLOAD)


class _Topic:
    """Counts of one topic since the last collection."""

    __slots__ = ("closed", "opened", "traffic")

    def __init__(self) -> None:
        self.opened = 0
        self.closed: dict[tuple[int, Side], int] = {}  # by close code, and by the side that closed
        self.traffic = [0] * 8  # `_COUNTERS` of both directions


class StatsObserver:
    """Counts what happens to the sessions of this process."""

    def __init__(self, metrics: Metrics, sessions: Sessions) -> None:
        self._metrics = metrics
        self._sessions = sessions
        self._topics: dict[Labels, _Topic] = {}
        # Per session: frames, messages, octets and payload of both lanes that are counted already.
        self._counted: dict[Session, list[int]] = {}
        self._codes: dict[Labels, set[int]] = {}  # application-defined close codes, by topic
        # Finished handshakes: their start, and the end of each phase.
        self._tls_failures: list[tuple[float, list[tuple[Phase, float]]]] = []
        self._lifetimes: list[float] = []
        metrics.probes.append(self._collect)

    async def run(self) -> None:
        """Collect once a second, and publish the numbers to the other processes."""
        while True:
            due = trio.current_time() + INTERVAL
            await trio.sleep_until(due)
            self._metrics.observe(families.LAG, (), trio.current_time() - due)
            self._metrics.publish()

    # -- sessions ------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """Count a session after its 101; its handshake is over."""
        labels = _labels(session)
        self._topic(labels).opened += 1
        self._counted[session] = [0] * 8
        if session.limiters is not None:
            listeners = (partial(self._throttled, (*labels, way)) for way in (_IN, _OUT))
            session.limiters.add_listeners(*listeners)
        self._record_phases(session.opened_at, session.phase_ends)

    def ended(self, session: Session) -> None:
        """Count a session's end, and its traffic since the last collection."""
        if (counted := self._counted.pop(session, None)) is None:
            if session.request != "-" or session.status:
                self._refused(session)
            return
        labels = _labels(session)
        topic = self._topic(labels)
        _add_traffic(session, topic, counted)
        ending = ending_of(session)
        assert ending is not None
        how = ending.code, ending.by
        topic.closed[how] = topic.closed.get(how, 0) + 1
        if session.denied:
            self._metrics.add(families.DENIED, (*labels[:2], session.denied, "close"))
        self._lifetimes.append(session.age)
        if len(self._lifetimes) >= BATCH:
            self._add_times()

    def _refused(self, session: Session) -> None:
        api = ("", "") if session.route is None else _labels(session)[:2]
        self._metrics.add(families.HANDSHAKES, (*api, str(session.status), session.code))
        if session.limit:
            self._metrics.add(families.REFUSED, (*api, session.limit.lower()))
        if session.denied and session.code == BLOCKED:
            self._metrics.add(families.DENIED, (*api, session.denied, "refused"))
        last = session.phase, trio.current_time()
        self._record_phases(session.opened_at, [*session.phase_ends, last])

    def _record_phases(self, began: float, phase_ends: list[tuple[Phase, float]]) -> None:
        """Record how long the phases of a handshake took."""
        self._tls_failures.append((began, phase_ends))
        if len(self._tls_failures) >= BATCH:
            self._add_times()

    def _add_times(self) -> None:
        times: defaultdict[Phase, list[float]] = defaultdict(list)
        for last, phase_ends in self._tls_failures:
            for phase, left in phase_ends:
                times[phase].append(left - last)
                last = left
        self._tls_failures.clear()
        for phase, values in times.items():
            self._metrics.observe_all(families.PHASES, _PHASES[phase], values)
        if self._lifetimes:
            self._metrics.observe_all(families.LIFETIME, (), self._lifetimes)
            self._lifetimes.clear()

    def _throttled(self, labels: Labels, counter: WindowCounter | Decided, messages: int) -> None:
        labels = (*labels, counter.level.lower(), counter.tier.on_exceed)
        self._metrics.add(families.THROTTLED, labels, messages)

    def _topic(self, labels: Labels) -> _Topic:
        topic = self._topics.get(labels)
        if topic is None:
            topic = self._topics[labels] = _Topic()
        return topic

    def _collect(self) -> None:
        held: Counter[Labels] = Counter()
        for session, counted in self._counted.items():
            labels = _labels(session)
            _add_traffic(session, self._topic(labels), counted)
            if session.rate_limits and session.holding:
                held[labels] += 1
        metrics = self._metrics
        metrics.clear(families.HELD)
        for labels, count in held.items():
            metrics.put(families.HELD, labels, count)
        for labels, topic in self._topics.items():
            self._add(labels, topic)
        self._topics.clear()
        self._add_times()
        metrics.put(families.SOCKETS, (), len(self._sessions))

    def _add(self, labels: Labels, topic: _Topic) -> None:
        metrics = self._metrics
        metrics.add(families.OPENED, labels, topic.opened)
        metrics.add(families.OPEN, labels, topic.opened - sum(topic.closed.values()))
        metrics.add(families.HANDSHAKES, (*labels[:2], _SWITCHED, ""), topic.opened)
        for (code, by), count in topic.closed.items():
            how = self._code(labels, code), by.value
            metrics.add(families.CLOSED, (*labels, *how), count)
        for place, amount in enumerate(topic.traffic):
            metrics.add(_COUNTERS[place % 4], (*labels, _IN if place < 4 else _OUT), amount)

    def _code(self, topic: Labels, code: int) -> str:
        """Turn a close code into a label. Peers can invent codes; without a bound they would create
        any number of series.
        """
        if code in _APPLICATION_CODES:
            if topic not in self._codes and len(self._codes) >= MAX_TOPICS:
                self._codes.clear()
            codes = self._codes.setdefault(topic, set())
            if len(codes) < MAX_CODES:
                codes.add(code)
            if code not in codes:
                return families.OTHER
        return str(int(code))


def _add_traffic(session: Session, topic: _Topic, counted: list[int]) -> None:
    """Add the traffic of a session since the last time."""
    publish, subscribe = session.publish, session.subscribe
    assert publish is not None
    assert subscribe is not None
    if publish.octets == counted[2] and subscribe.octets == counted[6]:
        return
    for place, value in enumerate((*_numbers(publish), *_numbers(subscribe))):
        # A frame in progress can make the payload look larger than it will be.
        if (more := value - counted[place]) > 0:
            topic.traffic[place] += more
            counted[place] = value


def _numbers(lane: Lane) -> tuple[int, int, int, int]:
    return lane.frames, lane.messages, lane.octets, lane.payload


def _labels(session: Session) -> Labels:
    route = session.route
    assert route is not None
    return route.api.name, route.api.version, route.topic.name


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
            with open("/proc/self/statm") as file:
                pages = int(file.read().split()[1])
            metrics.put(families.MEMORY, worker, pages * os.sysconf("SC_PAGE_SIZE"))
        except OSError as error:
            # There is no `/proc`, or no descriptor is left to open it.
            if error.errno == errno.EMFILE:
                metrics.put(families.DESCRIPTORS, worker, most)
