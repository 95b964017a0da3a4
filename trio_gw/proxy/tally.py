"""What is counted about connections, and about this process. One per process, made by `worker`.

The relay counts on its lanes, in plain integers; once a second (`run`), when a connection ends,
and when somebody asks, what came since the last look is added to the metrics here.
"""

from __future__ import annotations

import errno
import os
import resource
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.config.conditions import KINDS
from trio_gw.errors import Phase
from trio_gw.guard.refusals import BLOCKED
from trio_gw.proxy.access import ending_of
from trio_gw.telemetry import families

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.errors import Problem
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.quota import Quota
    from trio_gw.proxy.balancer import Balancers
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.relay.lane import Lane
    from trio_gw.routes import Live
    from trio_gw.telemetry.metrics import Labels, Metrics

PASS = 1.0  # seconds between two looks
_IN, _OUT = "in", "out"
_PHASES = {phase: (phase.value,) for phase in Phase}  # as labels
_COUNTERS = (families.FRAMES, families.MESSAGES, families.OCTETS, families.PAYLOAD)


class Tally:
    """Counts what happens to the sessions of this process."""

    def __init__(self, metrics: Metrics, sessions: Sessions) -> None:
        self._metrics = metrics
        self._sessions = sessions
        # Of each topic what is to be added, eight numbers: as in `_COUNTERS`, in and out.
        self._traffic: dict[Labels, list[int]] = {}
        metrics.probes.append(self._collect)

    async def run(self) -> None:
        """Look at all sessions once a second, and show the numbers to other processes."""
        while True:
            due = trio.current_time() + PASS
            await trio.sleep_until(due)
            self._metrics.observe(families.LAG, (), trio.current_time() - due)
            self._metrics.publish()

    # -- sessions ------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """Count a session whose client has its 101; its handshake is over."""
        topic = _topic(session)
        self._metrics.add(families.OPENED, topic)
        self._metrics.add(families.OPEN, topic)
        session.counted = [0] * 8
        if session.gates is not None:
            heard = (partial(self._throttled, (*topic, way)) for way in (_IN, _OUT))
            session.gates.hear(*heard)
        self._answered(session)

    def ended(self, session: Session) -> None:
        """Count a session's end, and the rest of what it carried."""
        if not session.counted:
            if session.request != "-" or session.status:
                self._answered(session)
            return
        self._look(session)
        ending = ending_of(session)
        assert ending is not None
        topic, now = _topic(session), trio.current_time()
        self._metrics.add(families.OPEN, topic, -1)
        self._metrics.add(families.CLOSED, (*topic, str(int(ending.code)), ending.by.value))
        if session.denied:
            self._metrics.add(families.DENIED, (*topic[:2], session.denied, "close"))
        self._metrics.observe(families.LIFETIME, (), now - session.opened_at)

    def _answered(self, session: Session) -> None:
        api = ("", "") if session.route is None else _topic(session)[:2]
        self._metrics.add(families.HANDSHAKES, (*api, str(session.status), session.code))
        if session.limit:
            self._metrics.add(families.REFUSED, (*api, session.limit.lower()))
        if session.denied and session.code == BLOCKED:
            self._metrics.add(families.DENIED, (*api, session.denied, "refused"))
        last = session.opened_at
        marks = session.marks
        if session.phase is not Phase.RELAY:
            marks = [*marks, (session.phase, trio.current_time())]
        for phase, left in marks:
            self._metrics.observe(families.PHASES, _PHASES[phase], left - last)
            last = left

    def _throttled(self, labels: Labels, quota: Quota) -> None:
        labels = (*labels, quota.level.lower(), quota.tier.on_exceed)
        self._metrics.add(families.THROTTLED, labels)

    def _look(self, session: Session) -> None:
        publish, subscribe = session.publish, session.subscribe
        assert publish is not None
        assert subscribe is not None
        counted = session.counted
        if publish.octets == counted[2] and subscribe.octets == counted[6]:
            return
        topic = _topic(session)
        traffic = self._traffic.get(topic)
        if traffic is None:
            traffic = self._traffic[topic] = [0] * 8
        for place, value in enumerate((*_numbers(publish), *_numbers(subscribe))):
            # What is under way may make the payload look larger than it proves to be.
            if (more := value - counted[place]) > 0:
                traffic[place] += more
                counted[place] = value

    def _collect(self) -> None:
        held: Counter[Labels] = Counter()
        for session in self._sessions:
            if session.counted:
                self._look(session)
                if session.tolls and session.holding:
                    held[_topic(session)] += 1
        self._metrics.clear(families.HELD)
        for topic, count in held.items():
            self._metrics.put(families.HELD, topic, count)
        for topic, traffic in self._traffic.items():
            for place, amount in enumerate(traffic):
                direction = _IN if place < 4 else _OUT
                self._metrics.add(_COUNTERS[place % 4], (*topic, direction), amount)
        self._traffic.clear()
        self._metrics.put(families.SOCKETS, (), len(self._sessions))


def _numbers(lane: Lane) -> tuple[int, int, int, int]:
    return lane.frames, lane.messages, lane.octets, lane.payload


def _topic(session: Session) -> tuple[str, str, str]:
    route = session.route
    assert route is not None
    return route.api.name, route.api.version, route.topic.name


class Gauges:
    """What is measured of this process, its backends and its table, whenever somebody asks."""

    def __init__(
        self,
        metrics: Metrics,
        live: Live,
        balancers: Balancers,
        problems: Callable[[], tuple[Problem, ...]],
        blocklist: Blocklist,
    ) -> None:
        self._metrics = metrics
        self._live = live
        self._balancers = balancers
        self._problems = problems
        self._blocklist = blocklist
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
        metrics.clear(families.BACKEND_UP)
        for name, well in self._balancers.health():
            metrics.put(families.BACKEND_UP, (name, *worker), int(well))
        times = os.times()
        metrics.put(families.CPU, worker, times.user + times.system)
        metrics.put(families.STARTED, worker, self._started)
        try:
            metrics.put(families.DESCRIPTORS, worker, len(os.listdir("/proc/self/fd")))
            with open("/proc/self/statm") as file:
                pages = int(file.read().split()[1])
            metrics.put(families.MEMORY, worker, pages * os.sysconf("SC_PAGE_SIZE"))
        except OSError as error:
            # No `/proc`; or looking takes a descriptor, and clients have taken the last one.
            if error.errno == errno.EMFILE:
                most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                metrics.put(families.DESCRIPTORS, worker, most)
