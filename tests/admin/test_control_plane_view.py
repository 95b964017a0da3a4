"""`/admin/control-plane`: what each worker knows of the control plane, in one response."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from support.adminapi import BASIC, AdminClient
from support.gateway import start_gateway
from trio_gw.admin.control_plane_view import describe
from trio_gw.admin.rpc_messages import GetControlPlane, RpcRequest
from trio_gw.admin.worker_status import WorkerStatus
from trio_gw.control_plane.status import BrokerStatus, ControlPlaneStatus, QueueStatus
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    import trio

URL = "https://apim.example:9443/"


@pytest.fixture
def follower() -> ControlPlaneStatus:
    """The status of a worker that follows: pulled, connected, one event."""
    status = ControlPlaneStatus(URL, ("Default",), follows=True)
    broker = BrokerStatus("apim.example:5672")
    status.brokers = [BrokerStatus("other:5672"), broker]
    status.lost(status.brokers[0], "refused")
    status.connected(broker)
    status.pull_ended(0.25, (Problem("Chat 1.0.0", 0, 0, "it has no backend", ""),))
    status.mark_current()
    status.event("deploy", "applied", "Chat 1.0.0")
    status.served = {"apis": 1}
    status.queues["acknowledgements"] = QueueStatus(2, 100, 3)
    return status


def other() -> ControlPlaneStatus:
    """The status of a worker that does not follow."""
    return ControlPlaneStatus(URL, ("Default",), served={"apis": 1})


def test_the_follower_and_the_others(follower: ControlPlaneStatus) -> None:
    follower.pulled_at = follower.last_event_at = 1_700_000_000.0
    for one in follower.brokers:
        one.since = 1_700_000_000.0
    body: dict[str, Any] = json.loads(msgspec.json.encode(describe({1: follower, 2: other()}, [3])))
    at = "2023-11-14T22:13:20.000Z"
    frame_events = {"published": 0, "dropped": 0, "failed": 0}
    standing_by = {"connects": 0, "losses": 0, "reason": "refused"}
    assert body == {
        "url": URL,
        "environments": ["Default"],
        "follower": 1,
        "current": True,
        "stale_seconds": 0.0,
        "from_cache": False,
        "pull": {
            "running": False, "at": at, "seconds": 0.25, "good": 1, "failed": 0, "error": None,
        },
        "brokers": [
            {"address": "other:5672", "connected": False, "since": at, **standing_by},
            {"address": "apim.example:5672", "connected": True, "since": at, "connects": 1,
             "losses": 0, "reason": None},
        ],
        "events": {"deploy": {"applied": 1}},
        "last_event": {"at": at, "what": "deploy applied: Chat 1.0.0"},
        "problems": [
            {"file": "Chat 1.0.0", "line": 0, "column": 0, "what": "it has no backend",
             "hint": "", "severity": "error"},
        ],
        "workers": [
            {"worker": 1, "served": {"apis": 1}, "frame_events": frame_events, "receivers": [],
             "queues": {"acknowledgements": {"waiting": 2, "limit": 100, "dropped": 3}}},
            {"worker": 2, "served": {"apis": 1}, "frame_events": frame_events, "receivers": [],
             "queues": {}},
        ],
        "missing": [3],
    }  # fmt: skip


def test_without_the_follower_its_part_is_unknown() -> None:
    body = describe({2: other()}, [1])
    assert body["missing"] == [1]
    unknown = {name for name, value in body.items() if value is None}
    assert unknown == {
        *("follower", "current", "stale_seconds", "from_cache", "pull", "brokers", "events"),
        *("last_event", "problems"),
    }


def test_before_the_first_pull() -> None:
    status = ControlPlaneStatus(URL, ("Default",), follows=True, started_at=0)
    body = describe({1: status}, [])
    assert body["pull"]["at"] is None
    assert body["last_event"] is None
    assert body["stale_seconds"] > 1e9
    assert body["problems"] == []


async def test_another_worker_is_asked(follower: ControlPlaneStatus) -> None:
    asked = msgspec.msgpack.encode(GetControlPlane())
    assert msgspec.msgpack.decode(asked, type=RpcRequest) == GetControlPlane()
    parts: Any = SimpleNamespace(problems=())
    status = WorkerStatus(1, parts, parts, None, parts, follower)
    answer = await status.handle(asked)
    assert msgspec.msgpack.decode(answer, type=ControlPlaneStatus) == follower


def test_its_problems_are_among_those_of_the_worker(follower: ControlPlaneStatus) -> None:
    catalog: Any = SimpleNamespace(problems=(Problem("one", 0, 0, "broken", ""),))
    background: Any = SimpleNamespace(problems=tuple)
    listed = WorkerStatus(1, catalog, catalog, None, background, follower).problems()
    assert [problem.file for problem in listed] == ["one", "Chat 1.0.0"]
    assert len(WorkerStatus(1, catalog, catalog, None, background).problems()) == 1


async def test_without_a_control_plane_there_is_no_view(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start_gateway(nursery, base, admin=True)
    answer = await AdminClient(gateway).ask("GET", "/admin/control-plane", {"Authorization": BASIC})
    assert answer.status == 404
    assert "control_plane.url" in answer.json()["message"]
