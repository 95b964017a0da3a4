"""The status of the control plane: counters and texts for `/admin/control-plane` and `/metrics`.

The tasks of the control plane write it, the admin API and the metrics read it. The process that
follows API Manager knows pull, brokers and events; the other processes know only what they serve.
"""

from __future__ import annotations

import time
from typing import Literal, get_args

import msgspec

from trio_gw.errors import Problem

EventKind = Literal[
    "deploy",
    "undeploy",
    "api",
    "lifecycle",
    "application",
    "key_mapping",
    "subscription",
    "policy",
    "key_manager",
    "revocation",
    "block",
    "key_template",
    "decision",
    "other",
]
# `stale`: an older event than the last of its object. `ignored`: it does not concern this gateway.
# `failed`: what the event announces could not be fetched.
EventResult = Literal["applied", "stale", "ignored", "malformed", "failed"]

EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
EVENT_RESULTS: tuple[EventResult, ...] = get_args(EventResult)
# Events about frames, for the Traffic Manager.
FRAME_EVENT_RESULTS = ("published", "dropped", "failed")
LENGTH = 300  # characters of a text


class BrokerStatus(msgspec.Struct):
    """A broker of the event hub, or an event receiver of the Traffic Manager.

    `address` is `host:port`, without credentials. `since` is the time of the last change (epoch
    seconds). `reason` is why the connection is not open; empty if it is, or was not tried yet.
    """

    address: str
    connected: bool = False
    since: float = 0.0
    connects: int = 0
    losses: int = 0
    reason: str = ""


class QueueStatus(msgspec.Struct):
    """A bounded queue: entries that wait, its limit, and entries dropped because it was full."""

    waiting: int = 0
    limit: int = 0
    dropped: int = 0


class ControlPlaneStatus(msgspec.Struct):
    """What one process knows of the control plane. Times are epoch seconds; 0 is never.

    `follows`: this process pulls and receives events. `pulled_at` is the end of the last good
    pull, also one of an earlier run whose result the cache holds. `current_at` is the last time
    when what is served was known to be what API Manager holds; it is so now while `current` is
    true. `served` counts what is served, by kind (`apis`, `subscriptions`, ...). `problems` are
    those of single APIs and rows, as the last good pull found them.
    """

    url: str = ""
    environments: tuple[str, ...] = ()
    follows: bool = False
    started_at: float = msgspec.field(default_factory=time.time)
    from_cache: bool = False  # what is served is the last known state of an earlier run
    current: bool = False
    current_at: float = 0.0
    pulling: bool = False
    pulls: int = 0
    pull_failures: int = 0
    pulled_at: float = 0.0
    pull_seconds: float = 0.0  # how long the last good pull took
    pull_error: str = ""  # of the last attempt; empty after a good one
    brokers: list[BrokerStatus] = msgspec.field(default_factory=list)
    receivers: list[BrokerStatus] = msgspec.field(default_factory=list)
    events: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    last_event: str = ""
    last_event_at: float = 0.0
    frame_events: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(FRAME_EVENT_RESULTS, 0)
    )
    queues: dict[str, QueueStatus] = msgspec.field(default_factory=dict)
    served: dict[str, int] = msgspec.field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    cache_problems: tuple[Problem, ...] = ()

    def cached(self, pulled_at: float) -> None:
        """Note that the state of an earlier run is served, pulled at this time."""
        self.from_cache = True
        self.pulled_at = self.current_at = pulled_at

    def pull_started(self) -> None:
        """Note that a pull begins."""
        self.pulling = True

    def pull_ended(self, seconds: float, problems: tuple[Problem, ...] = ()) -> None:
        """Note a good pull: how long it took, and the problems with single APIs or rows."""
        self.pulling, self.from_cache = False, False
        self.pulls += 1
        self.pulled_at = time.time()
        self.pull_seconds, self.pull_error = seconds, ""
        self.problems = problems

    def pull_failed(self, error: str) -> None:
        """Note a pull that failed, or an attempt of one. The text has no credentials."""
        self.pulling = False
        self.pull_failures += 1
        self.pull_error = error[:LENGTH]

    def mark_current(self) -> None:
        """Note that events are received, and the pull after their queue was bound was good."""
        self.current, self.current_at = True, time.time()

    def mark_outdated(self) -> None:
        """Note that events may be missed from now on."""
        if self.current:
            self.current, self.current_at = False, time.time()

    def connected(self, broker: BrokerStatus) -> None:
        """Note that the connection to a broker is open."""
        broker.connected, broker.since, broker.reason = True, time.time(), ""
        broker.connects += 1

    def lost(self, broker: BrokerStatus, reason: str) -> None:
        """Note that a connection was lost or could not be opened. No credentials in `reason`."""
        if broker.connected:
            broker.losses += 1
        if broker.connected or not broker.since:
            broker.since = time.time()
        broker.connected, broker.reason = False, reason[:LENGTH]

    def event(self, kind: EventKind, result: EventResult, what: str = "") -> None:
        """Count an event. `what` names its object, for the view of the last event."""
        results = self.events.setdefault(kind, {})
        results[result] = results.get(result, 0) + 1
        self.last_event = f"{kind} {result}: {what}"[:LENGTH] if what else f"{kind} {result}"
        self.last_event_at = time.time()

    def stale_seconds(self) -> float:
        """Return for how long what is served may differ from what API Manager holds; 0: it is not.

        Without any good pull it counts from the start of the process.
        """
        if self.current:
            return 0.0
        return max(0.0, time.time() - (self.current_at or self.started_at))

    def all_problems(self) -> tuple[Problem, ...]:
        """Return the problems of operators: the connections, the cache, single APIs and rows."""
        found = []
        if self.pull_error:
            what = f"the control plane cannot be read: {self.pull_error}"
            hint = "see /admin/control-plane; what was read last stays in effect"
            found.append(Problem("control_plane.url", 0, 0, what, hint))
        if self.brokers and not any(broker.connected for broker in self.brokers):
            reasons = (f"{one.address}: {one.reason}" for one in self.brokers if one.reason)
            what = f"no broker of the control plane is connected: {'; '.join(reasons)}"[:LENGTH]
            hint = "events are caught up after the next connection"
            if any(broker.reason for broker in self.brokers):  # else the first attempt is under way
                found.append(Problem("control_plane.events", 0, 0, what, hint))
        for receiver in self.receivers:
            if receiver.reason:
                what = f"the event receiver {receiver.address} is not connected: {receiver.reason}"
                hint = "events wait, and are dropped when too many do; see /admin/control-plane"
                problem = Problem("control_plane.throttling", 0, 0, what, hint)
                found.append(problem)
        return (*found, *self.cache_problems, *self.problems)
