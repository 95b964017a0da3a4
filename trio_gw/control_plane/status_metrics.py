"""The metrics of the control plane, from its status. They are read at each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.telemetry import families

if TYPE_CHECKING:
    from trio_gw.control_plane.status import ControlPlaneStatus
    from trio_gw.telemetry.metrics import Metrics


def show(metrics: Metrics, status: ControlPlaneStatus) -> None:
    """Add the numbers of this process to its metrics."""
    metrics.probes.append(lambda: _put(metrics, status))


def _put(metrics: Metrics, status: ControlPlaneStatus) -> None:
    worker = metrics.worker
    if status.follows:
        _put_followed(metrics, status)
    for queue, size in status.queues.items():
        metrics.put(families.PLANE_QUEUED, (queue, worker), size.waiting)
        metrics.put(families.DROPPED, (queue,), size.dropped)
    for result, count in status.frame_events.items():
        metrics.put(families.FRAME_EVENTS, (result,), count)
    for receiver in status.receivers:
        labels = (receiver.address, worker)
        metrics.put(families.RECEIVER_UP, labels, receiver.connected)


def _put_followed(metrics: Metrics, status: ControlPlaneStatus) -> None:
    """Put the numbers that only the process that follows API Manager has."""
    metrics.put(families.PLANE_STALE, (), status.stale_seconds())
    metrics.put(families.PLANE_PULLS, ("good",), status.pulls)
    metrics.put(families.PLANE_PULLS, ("failed",), status.pull_failures)
    metrics.put(families.PLANE_PULL_TIME, (), status.pull_seconds)
    for kind, results in status.events.items():
        for result, count in results.items():
            metrics.put(families.PLANE_EVENTS, (kind, result), count)
    for broker in status.brokers:
        metrics.put(families.BROKER_UP, (broker.address,), broker.connected)
    for kind, count in status.served.items():
        metrics.put(families.PLANE_ROWS, (kind,), count)
