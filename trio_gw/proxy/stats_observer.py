"""Counts connections, and measures this process. One observer per process.

The relay counts on its lanes, in plain integers. Opened and closed connections are counted per
topic. Once a second (`run`) and before each scrape, the differences since the last time are added
to the metrics.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Phase
from trio_gw.guard.refusals import BLOCKED
from trio_gw.proxy.access_log import ending_of
from trio_gw.proxy.process_gauges import resident_memory
from trio_gw.telemetry import families, history

if TYPE_CHECKING:
    from trio_gw.errors import Side
    from trio_gw.guard.counter import WindowCounter
    from trio_gw.guard.decisions import Decided
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.relay.lane import Lane
    from trio_gw.telemetry.metrics import Labels, Metrics

INTERVAL = 1.0  # seconds between two collections
BATCH = 64  # handshakes to add at a time; cheaper than one by one
MAX_CODES = 20  # application-defined close codes that have a series of their own, per topic
MAX_TOPICS = 1000  # topics with remembered codes
_APPLICATION_CODES = range(3000, 5000)  # RFC 6455 §7.4.2
_IN, _OUT = "in", "out"
_PHASES = {phase: (phase.value,) for phase in Phase}  # as labels
_SWITCHED = "101"
_FIRST_REFUSAL = 400  # status
_COUNTERS = (families.FRAMES, families.MESSAGES, families.OCTETS, families.PAYLOAD)
_SHOWN = (1, 5, 2, 6)  # places of what the history keeps: messages in, out, and octets in, out
COLLECT_SHARE = 0.001  # of the time, to look at all sessions for the history


class _Topic:
    """Counts of one topic since the last collection."""

    __slots__ = ("closed", "opened", "traffic")

    def __init__(self) -> None:
        self.opened = 0
        self.closed: dict[tuple[int, Side], int] = {}  # by close code, and by the side that closed
        self.traffic = [0] * 8  # `_COUNTERS` of both directions


class StatsObserver:
    """Counts what happens to the sessions of this process."""

    def __init__(
        self, metrics: Metrics, sessions: Sessions, kept: history.History | None = None
    ) -> None:
        """Count in `metrics`, and in the history if one is `kept`."""
        self._metrics = metrics
        self._history = kept
        self._sessions = sessions
        self._topics: dict[Labels, _Topic] = {}
        # Per session: frames, messages, octets and payload of both lanes that are counted already.
        self._counted: dict[Session, tuple[Lane, Lane, list[int]]] = {}
        self._collected = False  # in this second
        self._collect_at = 0.0
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
            lag = trio.current_time() - due
            self._metrics.observe(families.LAG, (), lag)
            self._metrics.publish()
            if self._history is not None:
                self._end_second(self._history, lag)

    def _end_second(self, kept: history.History, lag: float) -> None:
        """End a second of the history.

        Looking at all sessions takes long if there are very many, so it is done only as often as
        takes `COLLECT_SHARE` of the time.
        """
        now = time.perf_counter()
        if now >= self._collect_at:
            self._collect()
            took = time.perf_counter() - now
            self._collect_at = now + took / COLLECT_SHARE - INTERVAL / 2
        times = os.times()
        kept.tick(
            time.time(),
            lag=lag,
            cpu=times.user + times.system,
            memory=resident_memory(),
            collected=self._collected,
        )
        self._collected = False

    # -- sessions ------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """Count a session after its 101; its handshake is over."""
        labels = _labels(session)
        self._topic(labels).opened += 1
        publish, subscribe = session.publish, session.subscribe
        assert publish is not None
        assert subscribe is not None
        self._counted[session] = publish, subscribe, [0] * 8
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
        _add_traffic(topic, *counted)
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
        if self._history is not None and session.status >= _FIRST_REFUSAL:
            self._history.add((api[0], api[1]), history.REFUSED, 1)
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
        if self._history is not None:
            self._history.add((labels[0], labels[1]), history.THROTTLED, messages)
        labels = (*labels, counter.level.lower(), counter.tier.on_exceed)
        self._metrics.add(families.THROTTLED, labels, messages)

    def _topic(self, labels: Labels) -> _Topic:
        topic = self._topics.get(labels)
        if topic is None:
            topic = self._topics[labels] = _Topic()
        return topic

    def _collect(self) -> None:
        held: Counter[Labels] = Counter()
        self._collected = True
        # Most sessions of many are idle, so this loop does as little as possible for those.
        for session, (publish, subscribe, counted) in self._counted.items():
            if publish.octets != counted[2] or subscribe.octets != counted[6]:
                topic = self._topic(_labels(session))
                _add_traffic(topic, publish, subscribe, counted)
            if session.rate_limits and session.holding:
                held[_labels(session)] += 1
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
        if self._history is not None:
            moved = [topic.traffic[place] for place in _SHOWN]
            closed = sum(topic.closed.values())
            self._history.add_topic((labels[0], labels[1]), topic.opened, closed, moved)
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


def _add_traffic(topic: _Topic, publish: Lane, subscribe: Lane, counted: list[int]) -> None:
    """Add the traffic of a session since the last time."""
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
