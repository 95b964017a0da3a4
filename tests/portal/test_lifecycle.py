"""The states of an API, as they act at the gateway: the whole table, over real connections."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.backends import start_echo
from support.gateway import start_gateway
from support.portal_client import USERS, portal_client
from support.projects import api, asyncapi, write
from trio_gw.config.lifecycle import STATES, STEPS, steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from support.backends import Backend
    from support.gateway import RunningGateway
    from support.portal_client import PortalClient

ID = "chat-id"


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path, backend: Backend) -> RunningGateway:
    meta = api("News", "/news", backend.url, id="news-id", lifeCycleStatus="BLOCKED")
    write(base / "apis", "news", meta, asyncapi({"/*": {"publish": {}}}))
    return await start_gateway(nursery, base, admin=True, admin_settings={"users": USERS})


@pytest.fixture
async def publisher(gateway: RunningGateway) -> AsyncIterator[PortalClient]:
    async with portal_client(gateway, "pub") as client:
        yield client


async def put(client: PortalClient, state: str, api_id: str = ID, **more: str) -> Any:
    return await client.send("PUT", f"/api/apis/{api_id}/lifecycle", {"state": state, **more})


async def refused(gateway: RunningGateway, path: str = "/chat/1.0.0/x") -> tuple[int, Any]:
    with pytest.raises(InvalidStatus) as caught:
        async with gateway.connect(path, gateway.token()):
            pass
    answer = caught.value.response
    return answer.status_code, json.loads(answer.body)


async def test_an_api_from_its_begin_to_its_end(
    gateway: RunningGateway, publisher: PortalClient, backend: Backend
) -> None:
    files = {
        "api.yaml": json.dumps(api("Chat", "/chat", backend.url, id=ID, lifeCycleStatus="CREATED")),
        "Definitions/asyncapi.yaml": json.dumps(asyncapi({"/*": {"publish": {}}})),
    }
    body = {"files": files}
    assert (await publisher.send("POST", "/api/deployments", body)).json()["revision"] == "r1"
    shown = (await publisher.get(f"/api/apis/{ID}/lifecycle")).json()
    assert (shown["state"], shown["acts"]) == ("CREATED", False)
    path, token = "/chat/1.0.0/x", gateway.token()
    async with gateway.connect(path, token) as connection:  # created is served
        assert connection.response is not None
        assert "deprecation" not in connection.response.headers

    # What is no step is refused, and nothing changes.
    answer = await put(publisher, "BLOCKED")
    assert answer.status_code == 409
    assert answer.json()["message"].startswith("BLOCKED cannot follow CREATED; allowed: ")

    assert (await put(publisher, "PROTOTYPED")).status_code == 200
    async with gateway.connect(path):  # no token asked
        pass
    assert (await put(publisher, "PUBLISHED")).json()["acts"] is True
    assert (await refused_without_token(gateway, path)) == 401

    async with gateway.connect(path, token) as open_before:
        assert (await put(publisher, "BLOCKED")).status_code == 200
        with pytest.raises(ConnectionClosed):
            await open_before.recv()
        assert open_before.close_code == 1008
        assert open_before.close_reason == "API is blocked"
    status, fault = await refused(gateway)
    assert (status, fault["code"], fault["error_message"]) == (503, "700700", "API blocked")

    # A new deployment does not unblock it.
    again = await publisher.send("POST", "/api/deployments", {**body, "override": True})
    assert again.json()["revision"] == "r2"
    assert (await refused(gateway))[0] == 503

    answer = await put(publisher, "DEPRECATED", successor="Chat:2.0.0", sunset="2027-06-30")
    assert answer.json()["successor"] == "Chat:2.0.0"
    since = answer.json()["since"]
    async with gateway.connect(path, token) as connection:
        assert connection.response is not None
        assert connection.response.headers["Deprecation"] == f"@{since}"
        assert connection.response.headers["Sunset"] == "Wed, 30 Jun 2027 00:00:00 GMT"
        assert (await put(publisher, "RETIRED")).status_code == 422
        assert (await put(publisher, "RETIRED", confirm="Chatt")).status_code == 422
        assert (await put(publisher, "RETIRED", confirm="Chat")).status_code == 200
        await connection.send("still here")  # as after an undeployment, without `evict`
        assert await connection.recv() == "still here"
    assert (await refused(gateway))[0] == 404

    # Its revisions are kept; one that is deployed anew begins as created.
    listed = (await publisher.get(f"/api/apis/{ID}/revisions")).json()["revisions"]
    assert [(one["revision"], one["live"]) for one in listed] == [("r2", ["localhost"]), ("r1", [])]
    assert (await put(publisher, "PUBLISHED")).status_code == 409
    zipped = (await publisher.get(f"/api/apis/{ID}/revisions/1/zip")).content
    assert (
        json.loads(zipfile.ZipFile(io.BytesIO(zipped)).read("api.yaml"))["data"]["name"] == "Chat"
    )
    back = {"api": ID, "revision": 1, "override": True}
    assert (await publisher.send("POST", "/api/deployments", back)).json()["revision"] == "r3"
    shown = (await publisher.get(f"/api/apis/{ID}/lifecycle")).json()
    assert (shown["state"], shown["acts"], shown["user"]) == ("CREATED", True, "pub")
    both = {**back, "publish": True}
    assert (await publisher.send("POST", "/api/deployments", both)).status_code == 200
    assert (await publisher.get(f"/api/apis/{ID}/lifecycle")).json()["state"] == "PUBLISHED"
    assert (await refused_without_token(gateway, path)) == 401


async def refused_without_token(gateway: RunningGateway, path: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with gateway.connect(path):
            pass
    return caught.value.response.status_code


async def test_a_state_in_a_file_acts_once_it_is_set_here(
    gateway: RunningGateway, publisher: PortalClient
) -> None:
    path = "/news/1.0.0/x"
    shown = (await publisher.get("/api/apis/news-id/lifecycle")).json()
    assert (shown["state"], shown["acts"], shown["declared"]) == ("BLOCKED", False, "BLOCKED")
    async with gateway.connect(path, gateway.token()):
        pass
    assert (await put(publisher, "BLOCKED", "news-id")).status_code == 200
    assert (await refused(gateway, path))[0] == 503
    # The files are not touched, and files that change do not unblock it.
    project = gateway.apis / "news" / "api.yaml"
    project.write_text(project.read_text().replace("BLOCKED", "PUBLISHED"))
    assert (await refused(gateway, path))[0] == 503
    assert (await put(publisher, "PUBLISHED", "news-id")).status_code == 200
    async with gateway.connect(path, gateway.token()):
        pass


def test_the_steps() -> None:
    for state in STATES:
        assert steps(state, acts=True) == STEPS[state]
        assert state in steps(state, acts=False)
    assert steps("whatever", acts=False) == steps("PUBLISHED", acts=False)
    assert "PUBLISHED" in steps("retired", acts=False)
