"""The response of `/admin/control-plane`, from what each worker knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.admin.json_responses import problem_list
from trio_gw.admin.timestamps import iso

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trio_gw.control_plane.status import BrokerStatus, ControlPlaneStatus


def describe(statuses: Mapping[int, ControlPlaneStatus], missing: Sequence[int]) -> dict[str, Any]:
    """Describe the control plane. `statuses` by the number of the worker, at least one.

    What only the worker that follows API Manager knows is null if that worker did not respond.
    """
    some = next(iter(statuses.values()))
    number, status = next(
        ((number, one) for number, one in statuses.items() if one.follows), (None, None)
    )
    return {
        "url": some.url,
        "environments": list(some.environments),
        "follower": number,
        **_followed(status),
        "workers": [
            {
                "worker": number,
                "served": one.served,
                "queues": msgspec.to_builtins(one.queues),
                "frame_events": one.frame_events,
                "receivers": [_connection(receiver) for receiver in one.receivers],
            }
            for number, one in statuses.items()
        ],
        "missing": list(missing),
    }


def _followed(status: ControlPlaneStatus | None) -> dict[str, Any]:
    if status is None:
        names = ("current", "stale_seconds", "from_cache", "pull", "brokers", "events")
        return dict.fromkeys((*names, "last_event", "problems"))
    return {
        "current": status.current,
        "stale_seconds": round(status.stale_seconds(), 3),
        "from_cache": status.from_cache,
        "pull": {
            "running": status.pulling,
            "at": _moment(status.pulled_at),
            "seconds": round(status.pull_seconds, 3),
            "good": status.pulls,
            "failed": status.pull_failures,
            "error": status.pull_error or None,
        },
        "brokers": [_connection(broker) for broker in status.brokers],
        "events": status.events,
        "last_event": {"at": iso(status.last_event_at), "what": status.last_event}
        if status.last_event_at
        else None,
        "problems": problem_list(status.all_problems()),
    }


def _connection(broker: BrokerStatus) -> dict[str, Any]:
    return {
        "address": broker.address,
        "connected": broker.connected,
        "since": _moment(broker.since),
        "connects": broker.connects,
        "losses": broker.losses,
        "reason": broker.reason or None,
    }


def _moment(epoch: float) -> str | None:
    return iso(epoch) if epoch else None
