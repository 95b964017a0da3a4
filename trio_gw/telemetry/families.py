"""All metrics: name, kind, unit, labels and meaning. docs/metrics.md lists the same.

Names are written without the suffixes of the format (`_total`, `_bucket`). When a metric has as
many series as the settings allow (`metrics.series`), new label values become `other`, except those
of a fixed set (`FIXED`). So neither peers nor projects can make a metric grow without limit.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

FIXED = frozenset(
    (
        *("action", "by", "direction", "kind", "level", "limit", "listener", "part", "phase"),
        *("queue", "reason", "result", "severity", "worker"),
    )
)
OTHER = "other"

_TOPIC = ("api", "version", "topic")
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)


class Family(NamedTuple):
    """One metric. `buckets` are the upper bounds of a histogram, in seconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


SOCKETS = Family("trio_gw_client_connections", "gauge", "", (), "TCP connections of clients now.")
OPEN = Family("trio_gw_connections_open", "gauge", "", _TOPIC, "WebSockets that are open.")
OPENED = Family("trio_gw_connections_opened", "counter", "", _TOPIC, "WebSockets opened.")
CLOSED = Family(
    "trio_gw_connections_closed",
    "counter",
    "",
    (*_TOPIC, "code", "by"),
    "Closed WebSockets, by close code and by the side that ended them.",
)
LIFETIME = Family(
    "trio_gw_connection_duration_seconds",
    "histogram",
    "seconds",
    (),
    "How long WebSockets were open.",
    _LONG,
)
HANDSHAKES = Family(
    "trio_gw_handshakes",
    "counter",
    "",
    ("api", "version", "status", "error"),
    "Answered requests: HTTP status (0: the client disconnected), error code of a refusal.",
)
PHASES = Family(
    "trio_gw_handshake_phase_seconds",
    "histogram",
    "seconds",
    ("phase",),
    "Time spent in each phase before the relay.",
    _QUICK,
)
FRAMES = Family("trio_gw_frames", "counter", "", (*_TOPIC, "direction"), "Data frames received.")
MESSAGES = Family(
    "trio_gw_messages", "counter", "", (*_TOPIC, "direction"), "Data messages received."
)
OCTETS = Family(
    "trio_gw_wire_bytes",
    "counter",
    "bytes",
    (*_TOPIC, "direction"),
    "Octets of all frames received, with their headers.",
)
PAYLOAD = Family(
    "trio_gw_payload_bytes",
    "counter",
    "bytes",
    (*_TOPIC, "direction"),
    "Octets of the payloads of data frames received, compressed if they are.",
)
THROTTLED = Family(
    "trio_gw_throttled_messages",
    "counter",
    "",
    (*_TOPIC, "direction", "level", "action"),
    "Messages over a limit: dropped, delayed (pause), or their connection was closed.",
)
SHARED_KEYS = Family(
    "trio_gw_shared_limit_keys",
    "counter",
    "",
    ("worker",),
    "Keys of rate limits that shared their count with others, because no cell was free.",
)
HELD = Family("trio_gw_connections_held", "gauge", "", _TOPIC, "WebSockets with delayed messages.")
REFUSED = Family(
    "trio_gw_refused_connections",
    "counter",
    "",
    ("api", "version", "level"),
    "Handshakes refused because the limit on open WebSockets was reached.",
)
PENDING = Family(
    "trio_gw_pending_connections",
    "gauge",
    "",
    ("worker",),
    "Connections that wait for their client: for a request, or to read the response.",
)
EVICTED = Family(
    "trio_gw_evicted_connections",
    "counter",
    "",
    ("reason", "worker"),
    "Pending connections closed to make room for others.",
)
TLS_FAILED = Family(
    "trio_gw_tls_failed_handshakes",
    "counter",
    "",
    ("listener", "reason", "worker"),
    "TLS handshakes with clients that failed.",
)
DENIED = Family(
    "trio_gw_denied",
    "counter",
    "",
    ("api", "version", "level", "action"),
    "Handshakes refused and WebSockets closed because of a deny condition.",
)
CONDITIONS = Family(
    "trio_gw_deny_conditions",
    "gauge",
    "",
    ("level", "worker"),
    "Deny conditions in force.",
)
BACKEND_UP = Family(
    "trio_gw_backend_up", "gauge", "", ("backend", "worker"), "1 for a healthy backend."
)
RELOADS = Family(
    "trio_gw_table_changes", "counter", "", ("worker",), "Route tables that were put into use."
)
APIS = Family("trio_gw_apis", "gauge", "", ("worker",), "APIs in the table.")
PROBLEMS = Family(
    "trio_gw_problems",
    "gauge",
    "",
    ("severity", "worker"),
    "Faults in projects that are not fixed.",
)
FAILURES = Family(
    "trio_gw_background_failures",
    "counter",
    "",
    ("part",),
    "Failures of background tasks, which are restarted.",
)
DROPPED = Family(
    "trio_gw_dropped_events",
    "counter",
    "",
    ("queue",),
    "Events, spans and log lines dropped because a queue was full.",
)
LAG = Family(
    "trio_gw_event_loop_lag_seconds",
    "histogram",
    "seconds",
    (),
    "How much later than requested the event loop woke a task.",
    _QUICK,
)
CPU = Family(
    "trio_gw_process_cpu_seconds", "counter", "seconds", ("worker",), "Processor time used."
)
MEMORY = Family(
    "trio_gw_process_resident_memory_bytes", "gauge", "bytes", ("worker",), "Memory in use."
)
DESCRIPTORS = Family(
    "trio_gw_process_open_fds", "gauge", "", ("worker",), "File descriptors in use."
)
MEMORY_USED = Family(
    "trio_gw_memory_used_bytes", "gauge", "bytes", ("limit", "worker"), "Memory used of a limit."
)
MEMORY_LIMIT = Family(
    "trio_gw_memory_limit_bytes", "gauge", "bytes", ("limit", "worker"), "Memory that may be used."
)
OVERLOADED = Family(
    "trio_gw_overloaded",
    "gauge",
    "",
    ("worker",),
    "1 while new connections are refused because memory is short.",
)
SHED = Family(
    "trio_gw_shed_connections",
    "counter",
    "",
    ("worker",),
    "WebSockets closed because memory was short and their receiver was slow.",
)
UNRESPONSIVE = Family(
    "trio_gw_worker_unresponsive_seconds",
    "gauge",
    "seconds",
    ("worker",),
    "Seconds for which a worker has not responded; 0 if it responds.",
)
KILLED = Family(
    "trio_gw_workers_killed",
    "counter",
    "",
    ("worker",),
    "Workers killed because they did not respond.",
)
MOST_DESCRIPTORS = Family(
    "trio_gw_process_max_fds", "gauge", "", ("worker",), "File descriptors that may be in use."
)
STARTED = Family(
    "trio_gw_process_start_time_seconds",
    "gauge",
    "seconds",
    ("worker",),
    "Start time, in epoch seconds.",
)

PLANE_STALE = Family(
    "trio_gw_control_plane_stale_seconds",
    "gauge",
    "seconds",
    (),
    "For how long changes in API Manager may be unknown here; 0: they are not.",
)
PLANE_PULLS = Family(
    "trio_gw_control_plane_pulls",
    "counter",
    "",
    ("result",),
    "Pulls of the whole state from API Manager.",
)
PLANE_PULL_TIME = Family(
    "trio_gw_control_plane_pull_seconds",
    "gauge",
    "seconds",
    (),
    "How long the last good pull took.",
)
PLANE_EVENTS = Family(
    "trio_gw_control_plane_events",
    "counter",
    "",
    ("kind", "result"),
    "Events of API Manager received.",
)
BROKER_UP = Family(
    "trio_gw_control_plane_broker_connected",
    "gauge",
    "",
    ("broker",),
    "1 for the broker whose events are received.",
)
PLANE_ROWS = Family(
    "trio_gw_control_plane_rows",
    "gauge",
    "",
    ("kind",),
    "What of API Manager is in effect: APIs, applications, subscriptions and so on.",
)
PLANE_QUEUED = Family(
    "trio_gw_control_plane_queue",
    "gauge",
    "",
    ("queue", "worker"),
    "Entries that wait to be sent to API Manager or its Traffic Manager.",
)
FRAME_EVENTS = Family(
    "trio_gw_throttle_events",
    "counter",
    "",
    ("result",),
    "Events about frames for the Traffic Manager.",
)
RECEIVER_UP = Family(
    "trio_gw_throttle_receiver_connected",
    "gauge",
    "",
    ("receiver", "worker"),
    "1 for a receiver of frame events that is connected.",
)

FAMILIES: tuple[Family, ...] = (
    SOCKETS, OPEN, OPENED, CLOSED, LIFETIME, HANDSHAKES, PHASES, FRAMES, MESSAGES, OCTETS,
    PAYLOAD, THROTTLED, SHARED_KEYS, HELD, REFUSED, PENDING, EVICTED, TLS_FAILED, DENIED,
    CONDITIONS,
    BACKEND_UP, RELOADS, APIS, PROBLEMS, FAILURES, DROPPED, LAG, CPU, MEMORY, DESCRIPTORS,
    MOST_DESCRIPTORS, STARTED, MEMORY_USED, MEMORY_LIMIT, OVERLOADED, SHED, UNRESPONSIVE,
    KILLED, PLANE_STALE, PLANE_PULLS, PLANE_PULL_TIME, PLANE_EVENTS, BROKER_UP, PLANE_ROWS,
    PLANE_QUEUED, FRAME_EVENTS, RECEIVER_UP,
)  # fmt: skip
