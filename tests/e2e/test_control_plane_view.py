"""What operators see of a gateway that API Manager drives: view, metrics, problems, `top`."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.adminapi import BASIC, AdminClient
from support.apim import FakeApiManager, start_apim
from support.commands import gw, start
from support.gateway import RunningGateway, start_gateway
from support.numbers import total
from support.publisher import notification, payload, publishing
from support.workers import WorkerGroup
from trio_gw.app import worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.adminapi import Reached
    from support.commands import Serving
    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")

UUID = "6c1f0e2e-0001-4c5e-9a10-000000000001"
BACKEND = "ws://127.0.0.1:9"


@pytest.fixture
async def apim(nursery: trio.Nursery) -> FakeApiManager:
    apim = await start_apim(nursery)
    apim.seed(BACKEND)
    return apim


async def get(gateway: Reached, path: str) -> Any:
    answer = await AdminClient(gateway).ask("GET", path, {"Authorization": BASIC})
    assert answer.status == 200, answer.body
    return answer.json()


async def view_when(gateway: Reached, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for the view until something is so."""
    with trio.fail_after(30):
        while True:
            view: dict[str, Any] = await get(gateway, "/admin/control-plane")
            if is_so(view):
                return view
            await trio.testing.wait_all_tasks_blocked(0.02)


async def started(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, **more: Any
) -> RunningGateway:
    table = apim.settings(base, events=[rabbitmq.url()], **more)
    return await start_gateway(nursery, base, admin=True, control_plane=table)


async def test_the_view_and_the_metrics(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    gateway = await started(nursery, base, apim, rabbitmq)
    view = await view_when(gateway, lambda view: view["current"])
    assert (view["follower"], view["stale_seconds"], view["from_cache"]) == (1, 0, False)
    assert (view["pull"]["good"] > 0, view["pull"]["error"]) == (True, None)
    (broker,) = view["brokers"]
    assert broker["address"] == f"localhost:{rabbitmq.port}"
    assert (broker["connected"], broker["reason"]) == (True, None)
    assert view["problems"] == []
    (worker,) = view["workers"]
    assert worker["served"]["apis"] == worker["served"]["subscriptions"] == 1
    async with publishing(rabbitmq.port) as publisher:
        lock = notification(
            "SUBSCRIPTIONS_UPDATE", subscriptionId=1, apiUUID=UUID, applicationUUID="app-uuid-2",
            policyId="AsyncGold", subscriptionState="BLOCKED",
        )  # fmt: skip
        assert await publisher.publish("notification", lock)
        assert await publisher.publish("notification", b"no JSON")
    view = await view_when(gateway, lambda view: "other" in view["events"])
    assert view["events"] == {"subscription": {"applied": 1}, "other": {"malformed": 1}}
    assert view["last_event"]["what"].startswith("other malformed")
    assert gateway.running.metrics is not None
    text = gateway.running.metrics.exposition()
    assert total(text, "trio_gw_control_plane_stale_seconds") == 0
    assert total(text, "trio_gw_control_plane_pulls_total", result="good") >= 1
    events = "trio_gw_control_plane_events_total"
    assert total(text, events, kind="subscription", result="applied") == 1
    assert total(text, events, kind="other", result="malformed") == 1
    assert total(text, "trio_gw_control_plane_broker_connected", broker=broker["address"]) == 1
    assert total(text, "trio_gw_control_plane_rows", kind="subscriptions") == 1


class TwoWorkers(WorkerGroup):
    """A gateway with two workers in processes of their own."""

    def __init__(self, process: trio.Process, base: Path) -> None:
        super().__init__(process)
        self.base = base
        self.opened: list[trio.abc.Stream] = []
        self.admin_port = 0

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.base / "certs" / "mg.pem"))


async def test_any_worker_answers_for_the_one_that_follows(
    base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, running: list[Serving]
) -> None:
    table = apim.settings(base, events=[rabbitmq.url()])
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    (base / "gateway.toml").write_text("workers = 2\n[control_plane]\n" + "\n".join(lines))
    gateway = TwoWorkers(
        (await start(base, "run", TRIO_GW_LISTEN_ADMIN="localhost:0")).process, base
    )
    running.append(gateway)
    await gateway.says(" trio_gw: ready", 2)
    line = next(line for line in gateway.err.splitlines() if "admin API on https://127" in line)
    gateway.admin_port = int(line.rpartition(":")[2])

    def both_serve(view: dict[str, Any]) -> bool:
        return bool(view["current"]) and [
            one["served"].get("subscriptions") for one in view["workers"]
        ] == [1, 1]

    # Each request is a connection of its own: either worker accepts it.
    for _ in range(8):
        view = await view_when(gateway, both_serve)
        assert (view["follower"], view["missing"]) == (1, [])
    requested = len([path for path in apim.paths() if path == "subscriptions"])
    assert requested == view["pull"]["good"]
    shown = await trio.to_thread.run_sync(
        lambda: gw(
            base, "top", "--once", "--ca", str(base / "certs" / "mg.pem"), GW_PASSWORD="admin",
            GW_URL=f"https://localhost:{gateway.admin_port}",
        )
    )  # fmt: skip
    assert "control plane: current" in shown.stdout, shown.stderr
    assert f"events from localhost:{rabbitmq.port}" in shown.stdout


async def test_a_broken_api_is_a_problem_with_its_name(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    other = UUID.replace("0001", "0002")
    apim.deploy(other, name="Broken", context="/broken", backend="no address")
    gateway = await started(nursery, base, apim, rabbitmq)
    await view_when(gateway, lambda view: view["current"])
    problems = await get(gateway, "/admin/problems")
    assert [problem["file"].startswith("control_plane/Broken-1.0.0") for problem in problems] == [
        True
    ]
    assert [one["api"] for one in await get(gateway, "/admin/apis")] == ["Chat:1.0.0"]
    topics = await get(gateway, "/admin/topics?api=Chat:1.0.0")
    assert topics["definition"].endswith("Definitions/asyncapi.yaml")
    assert topics["topics"][0]["ways"]
    assert not topics["differs"]


async def test_what_is_wrong_with_the_connections_is_a_problem(
    nursery: trio.Nursery,
    base: Path,
    apim: FakeApiManager,
    rabbitmq: RabbitMQ,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "FIRST_PULL", 0.1)
    url = rabbitmq.url().replace("admin:admin@", "admin:wrong-one@")
    table = apim.settings(base, events=[url], password="wrong-one", environments=["Default"])
    gateway = await start_gateway(nursery, base, admin=True, control_plane=table)
    view = await view_when(
        gateway, lambda view: bool(view["pull"]["error"] and view["brokers"][0]["reason"])
    )
    assert not view["current"]
    assert view["stale_seconds"] > 0
    found = {problem["file"]: problem for problem in await get(gateway, "/admin/problems")}
    assert {"control_plane.url", "control_plane.events"} <= found.keys()
    assert "wrong-one" not in json.dumps([view, list(found.values())])


async def test_a_decision_of_the_traffic_manager_is_counted(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    gateway = await started(nursery, base, apim, rabbitmq)
    await view_when(gateway, lambda view: view["current"])
    decision = payload(throttleKey="2:/chat/1.0.0:1.0.0", isThrottled=True, expiryTimeStamp=4e12)
    async with publishing(rabbitmq.port) as publisher:
        assert await publisher.publish("throttleData", decision)
    view = await view_when(gateway, lambda view: "decision" in view["events"])
    assert view["events"]["decision"] == {"applied": 1}


async def test_revisions_are_acknowledged(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    """Scenario 23: deployed ones at the start and after an event, undeployed ones."""
    apim.deploy(UUID, backend=BACKEND, revisionId=3)
    gateway = await started(nursery, base, apim, rabbitmq, revision_updates=True)
    deployed, undeployed = "apis/deployed-revisions", "apis/undeployed-revision"
    (request,) = await apim.wait_requests(deployed, 1)
    place = {"name": "Default", "vhost": "localhost"}
    assert json.loads(request.body) == [{"apiId": UUID, "revisionId": 3, "envInfo": [place]}]
    await view_when(gateway, lambda view: view["current"])
    apim.deploy(UUID, revision="r2", backend=BACKEND, revisionId=4)
    members: dict[str, Any] = {"uuid": UUID, "gatewayLabels": ["Default"], "name": "Chat"}
    async with publishing(rabbitmq.port) as publisher:
        event = notification("DEPLOY_API_IN_GATEWAY", **members)
        assert await publisher.publish("notification", event)
        _, request = (await apim.wait_requests(deployed, 2))[:2]
        assert json.loads(request.body)[0]["revisionId"] == 4
        apim.undeploy(UUID)
        event = notification("REMOVE_API_FROM_GATEWAY", **members)
        assert await publisher.publish("notification", event)
        (request,) = await apim.wait_requests(undeployed, 1)
    body = {"apiUUID": UUID, "revisionUUID": "r2", "environment": "Default"}
    assert json.loads(request.body) == body
