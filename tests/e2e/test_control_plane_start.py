"""The start of a gateway that API Manager drives, with REST only.

The numbers are those of the scenarios for the reference system.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import trio

from support.adminapi import logged_in, packed
from support.apim import FakeApiManager, Fault, start_apim
from support.backends import Backend, start_echo
from support.callers import KeyManager, Verdict, becomes, verdict
from support.controlled import CHAT, start_controlled
from support.gateway import start_gateway
from support.logged import logged
from support.projects import api, asyncapi, write
from trio_gw.app import worker

if TYPE_CHECKING:
    from pathlib import Path

    from support.controlled import ControlledGateway

OTHER = "6c1f0e2e-0002-4c5e-9a10-000000000002"
LOGGER = "trio_gw.control_plane"


@pytest.fixture(scope="module")
def manager() -> KeyManager:
    return KeyManager()


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
async def apim(nursery: trio.Nursery, backend: Backend, manager: KeyManager) -> FakeApiManager:
    fake = await start_apim(nursery)
    fake.seed(backend.url, CHAT)
    manager.add_to(fake)
    return fake


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "FIRST_PULL", 0.01)


async def ready(controlled: ControlledGateway) -> bool:
    return (await controlled.gateway.get("/ready")).status == 200


async def wait_ready(controlled: ControlledGateway) -> None:
    live = controlled.gateway.running.live
    with trio.fail_after(60):
        while not await ready(controlled):
            with trio.move_on_after(0.05):
                await live.changed.wait()


async def test_1_everything_is_read_and_served(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, manager: KeyManager
) -> None:
    gate = trio.Event()
    apim.fault("runtime-artifacts", Fault(gate=gate))
    controlled = await start_controlled(nursery, base, apim)
    await apim.wait_requests("runtime-artifacts", 1)
    assert not await ready(controlled)
    gate.set()
    await wait_ready(controlled)
    gateway = controlled.gateway
    await becomes(gateway, manager.token(), 101)
    async with gateway.connect("/chat/1.0.0/x", manager.token()) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    assert await verdict(gateway, manager.token(azp="client-2")) == Verdict(403, "900908")
    paths = apim.paths()
    assert sorted(paths) == sorted({*paths})
    assert {request.user for request in apim.requests} == {"admin"}
    (artifacts,) = [one for one in apim.requests if one.path == "runtime-artifacts"]
    assert base64.b64decode(artifacts.query["gatewayLabel"]) == b"Default"


@pytest.mark.parametrize("status", [404, 204])
async def test_2_nothing_is_deployed(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, manager: KeyManager, status: int
) -> None:
    apim.undeploy(CHAT)
    apim.none_found = status
    controlled = await start_controlled(nursery, base, apim)
    await wait_ready(controlled)
    assert await verdict(controlled.gateway, manager.token()) == Verdict(404, "404")


async def test_3_rest_is_away_at_first(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, manager: KeyManager
) -> None:
    for path in ("subscriptions", "runtime-artifacts", "block"):
        apim.fault(path, Fault(reset=True), Fault(status=503))
    with logged(LOGGER) as log:
        controlled = await start_controlled(nursery, base, apim)
        await wait_ready(controlled)
        await log.wait("answers again")
    await becomes(controlled.gateway, manager.token(), 101)
    assert apim.paths().count("subscriptions") == 3


async def test_4_a_refused_list_does_not_hold_up_the_start(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, manager: KeyManager
) -> None:
    apim.fault("subscriptions", Fault(status=401, times=3))
    with logged(LOGGER) as log:
        controlled = await start_controlled(nursery, base, apim)
        await wait_ready(controlled)
        await becomes(controlled.gateway, manager.token(), 101)
        refused = [text for text in log.texts() if "control_plane.password" in text]
    assert refused
    assert not [text for text in refused if "admin:admin" in text]


async def test_a_broken_project_leaves_the_others(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, manager: KeyManager
) -> None:
    files = {"Bad-1.0.0/api.yaml": b"data: ["}
    apim.deploy(OTHER, name="Bad", context="/bad", files=files)
    controlled = await start_controlled(nursery, base, apim)
    await becomes(controlled.gateway, manager.token(), 101)
    assert await ready(controlled)


async def test_23_revisions_are_acknowledged(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager
) -> None:
    apim.deploy(CHAT, revisionId=3)
    apim.fault("apis/deployed-revisions", Fault(status=500, times=2))
    await start_controlled(nursery, base, apim, revision_updates=True)
    requests = await apim.wait_requests("apis/deployed-revisions", 3)
    expected = {
        "apiId": CHAT,
        "revisionId": 3,
        "envInfo": [{"name": "Default", "vhost": "localhost"}],
    }
    for request in requests:
        assert request.method == "PATCH"
        assert json.loads(request.body) == [expected]


async def test_25_the_adapter_refuses_deployments(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager
) -> None:
    table = apim.settings(base, events=[])
    gateway = await start_gateway(nursery, base, admin=True, control_plane=table)
    admin = await logged_in(gateway)
    project = write(base / "aside", "own", api("Own", "/own", None), asyncapi({"/*": {}}))
    answer = await admin.deploy(packed(project))
    assert answer.status == 400, answer.json()
    assert "control plane is enabled" in answer.json()["message"]
    answer = await admin.undeploy("Chat")
    assert answer.status == 400, answer.json()
    assert "control plane is enabled" in answer.json()["message"]
