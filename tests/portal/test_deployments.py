"""Deploying from the portal: what it answers, who is told that somebody else was faster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from support.adminapi import AdminClient, packed
from support.backends import start_echo
from support.gateway import start_gateway
from support.portal_client import PASSWORDS, USERS, portal_client
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx2

    from support.gateway import RunningGateway
    from support.portal_client import PortalClient

import pytest

ID = "2f4c1d9e-chat"


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_gateway(nursery, base, admin=True, admin_settings={"users": USERS})


@pytest.fixture
async def publisher(gateway: RunningGateway) -> AsyncIterator[PortalClient]:
    async with portal_client(gateway, "pub") as client:
        yield client


def files(url: str, topic: str = "/*", **data: Any) -> dict[str, str]:
    """Write a project as the editor sends it."""
    meta = api("Chat", "/chat", url, id=ID, **data)
    return {
        "api.yaml": json.dumps(meta, indent=1),
        "Definitions/asyncapi.yaml": json.dumps(asyncapi({topic: {"publish": {}}}), indent=1),
        "README.md": "not read",
    }


async def deploy(client: PortalClient, body: dict[str, Any], tag: str = "") -> httpx2.Response:
    headers = {"If-Match": f'"{tag}"'} if tag else None
    return await client.send("POST", "/api/deployments", body, headers)


async def test_a_project_from_the_portal(
    nursery: trio.Nursery, gateway: RunningGateway, publisher: PortalClient
) -> None:
    backend = await start_echo(nursery)
    answer = await deploy(publisher, {"files": files(backend.url), "note": "The  first"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["revision"], body["hosts"], body["problems"]) == ("r1", ["localhost"], [])
    assert answer.headers["etag"] == '"r1"'
    async with gateway.connect("/chat/1.0.0/x", gateway.token()) as connection:
        await connection.send("hi")
        assert await connection.recv() == "hi"

    # Without override it stays; a broken one and one that is there already are told.
    again = await deploy(publisher, {"files": files(backend.url, "/b")})
    assert again.status_code == 409
    broken = await deploy(publisher, {"files": {"api.yaml": "data: ["}, "override": True})
    assert broken.status_code == 422
    assert broken.json()["problems"][-1]["file"] == "api.yaml"
    for wrong in ("../api.yaml", "/api.yaml", "a\\b", "", "x/../api.yaml", "a\0"):
        answer = await deploy(publisher, {"files": {wrong: ""}})
        assert answer.status_code == 422, wrong
        assert answer.json()["message"].startswith("not the path")
    assert (await deploy(publisher, {"files": {}, "revision": 1})).status_code == 422

    # Two began with r1: the second is told who was faster.
    change = {"files": files(backend.url, "/b"), "override": True}
    assert (await deploy(publisher, change, "r1")).json()["revision"] == "r2"
    late = await deploy(publisher, {"files": files(backend.url, "/c"), "override": True}, "r1")
    assert late.status_code == 412
    assert late.json()["message"] == "the API has changed meanwhile: r2 was deployed by pub"
    assert late.json()["current"]["revision"] == "r2"

    # What apictl deploys is a revision as well, and the portal rolls back to the first.
    meta, definition = api("Chat", "/chat", backend.url, id=ID), asyncapi({"/d": {"publish": {}}})
    client = await logged_in_as_ada(gateway)
    zipped = packed(write(gateway.base / "aside", "chat", meta, definition))
    assert (await client.deploy(zipped, override=True)).status == 200
    back = await deploy(publisher, {"api": ID, "revision": 1, "override": True}, "r3")
    assert back.json()["revision"] == "r4"
    async with gateway.connect("/chat/1.0.0/x", gateway.token()):
        pass
    gone = await deploy(publisher, {"api": ID, "revision": 9, "override": True})
    assert gone.status_code == 404

    # A draft that the server keeps is deployed by its name.
    mine = files(backend.url, "/e")
    del mine["README.md"]
    kept = {"files": mine, "base": "r4"}
    assert (await publisher.send("PUT", "/api/drafts/mine", kept)).status_code == 200
    drafted = await deploy(publisher, {"draft": "mine", "override": True}, "r4")
    assert drafted.json()["revision"] == "r5", drafted.text
    assert (await deploy(publisher, {"draft": "none", "override": True})).status_code == 404

    # Undeployed, with the lines of the audit log.
    answer = await publisher.send("DELETE", f"/api/deployments/{ID}?host=other.example")
    assert answer.status_code == 404
    assert (await publisher.send("DELETE", f"/api/deployments/{ID}")).status_code == 204
    assert (await publisher.send("DELETE", f"/api/deployments/{ID}")).status_code == 404
    lines = (gateway.base / "portal" / "audit.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [one["action"] for one in records] == [*["deploy"] * 4, "undeploy"]
    assert records[0]["user"] == "pub"
    assert records[0]["address"] == "127.0.0.1"
    assert records[0]["note"] == "The first"
    assert records[2]["note"] == "Rolled back to r1"
    assert (gateway.base / "portal" / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def logged_in_as_ada(gateway: RunningGateway) -> AdminClient:

    client = AdminClient(gateway)
    assert (await client.login("ada", PASSWORDS["ada"])).status == 200
    return client


async def test_two_deployers_at_the_same_time(
    nursery: trio.Nursery, gateway: RunningGateway, publisher: PortalClient
) -> None:
    backend = await start_echo(nursery)
    assert (await deploy(publisher, {"files": files(backend.url)})).status_code == 200
    answers: list[httpx2.Response] = []

    async def race(topic: str) -> None:
        body = {"files": files(backend.url, topic), "override": True}
        answers.append(await deploy(publisher, body, "r1"))

    async with trio.open_nursery() as racing:
        for number in range(5):
            racing.start_soon(race, f"/t{number}")
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
