"""What is deployed over REST beside what lies in `apis/`; the reference's rows D3 to D10."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.adminapi import BASE, BASIC, AdminClient, form, logged_in, packed
from support.backends import Backend, start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, environments, write

if TYPE_CHECKING:
    from pathlib import Path

ANY: dict[str, Any] = {"/*": {"publish": {}}}
PLACES = [{"name": "Default", "vhost": "localhost"}, {"name": "US", "vhost": "us.wso2.com"}]


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_gateway(nursery, base, admin=True, environments=PLACES, strict_vhosts=True)


@pytest.fixture
async def client(gateway: RunningGateway) -> AdminClient:
    return await logged_in(gateway)


def project(base: Path, url: str, topic: str = "/*", **data: Any) -> Path:
    meta = api("Pets", "/pets", url, **data)
    return write(base / "aside", "pets", meta, asyncapi({topic: {"publish": {}}}))


async def test_d3_d4_with_basic_credentials(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    body, kind = form(packed(project(gateway.base, backend.url), "pets"))
    headers = {"Authorization": BASIC, "Content-Type": kind}
    assert (await client.ask("POST", f"{BASE}/apis", headers, body)).status == 200
    assert await gateway.status("/pets/1.0.0/x") == 101
    path = f"{BASE}/apis?apiName=Pets&version=1.0.0"
    assert (await client.ask("DELETE", path, {"Authorization": BASIC})).status == 200
    assert await gateway.status("/pets/1.0.0/x") == 404


async def test_d5_to_d9_three_vhosts(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    pets = project(gateway.base, backend.url)
    pairs = [("Default", ""), ("Default", "us.wso2.com"), ("Default", "eu.wso2.com")]
    environments(pets, *pairs)
    hosts = ("localhost", "us.wso2.com", "eu.wso2.com")
    assert (await client.deploy(packed(pets, "pets"))).status == 200
    assert [await gateway.status("/pets/1.0.0/x", host=host) for host in hosts] == [101] * 3
    assert (await client.deploy(packed(pets, "pets"))).status == 409
    assert (await client.deploy(packed(pets, "pets"), override=True)).status == 200
    assert (await client.undeploy("Pets", vhost="us.wso2.com")).status == 200
    found = [await gateway.status("/pets/1.0.0/x", host=host) for host in hosts]
    assert found == [101, 404, 101]
    assert (await client.undeploy("Pets")).status == 200
    assert [await gateway.status("/pets/1.0.0/x", host=host) for host in hosts] == [404] * 3


async def test_d10_several_environments(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    pets = project(gateway.base, backend.url)
    pairs = [("US", ""), ("US", "localhost"), ("Default", ""), ("Default", "eu.wso2.com")]
    environments(pets, *pairs)
    assert (await client.deploy(packed(pets, "pets"))).status == 200
    assert await gateway.status("/pets/1.0.0/x") == 101
    answer = await client.undeploy("Pets", vhost="localhost", environments="Default")
    assert answer.status == 200
    assert await gateway.status("/pets/1.0.0/x") == 101  # US is there, too
    assert (await client.undeploy("Pets", vhost="localhost", environments="US")).status == 200
    assert await gateway.status("/pets/1.0.0/x") == 404
    assert await gateway.status("/pets/1.0.0/x", host="eu.wso2.com") == 101


async def test_d13_malformed_endpoint(gateway: RunningGateway, client: AdminClient) -> None:
    answer = await client.deploy(packed(project(gateway.base, "ws://bad host"), "pets"))
    assert answer.status == 500
    assert any("api.yaml" in problem["file"] for problem in answer.json()["problems"])


async def test_a_redeployment_elsewhere_leaves_the_old_version(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    pets = project(gateway.base, backend.url, "/old")
    environments(pets, ("Default", ""), ("US", ""))
    assert (await client.deploy(packed(pets, "pets"))).status == 200
    pets = project(gateway.base, backend.url, "/new")
    environments(pets, ("US", ""))
    assert (await client.deploy(packed(pets, "pets"))).status == 409
    assert (await client.deploy(packed(pets, "pets"), override=True)).status == 200
    assert await gateway.status("/pets/1.0.0/old") == 101
    assert await gateway.status("/pets/1.0.0/new") == 404
    assert await gateway.status("/pets/1.0.0/new", host="us.wso2.com") == 101
    assert await gateway.status("/pets/1.0.0/old", host="us.wso2.com") == 404
    assert len(list((gateway.base / "deployed").glob("*.zip"))) == 2
    assert (await client.undeploy("Pets")).status == 200
    assert list((gateway.base / "deployed").glob("*.zip")) == []


async def test_deployed_nowhere(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    pets = project(gateway.base, backend.url)
    environments(pets, ("Elsewhere", ""))
    answer = await client.deploy(packed(pets, "pets"))
    assert (answer.status, answer.json()["message"]) == (200, "deployed nowhere")
    assert (await client.list()).body == b'{"list":null}'


async def changed(gateway: RunningGateway) -> None:
    with trio.fail_after(10):
        await gateway.running.live.wait_changed()


async def test_what_lies_in_the_folder_is_replaced_and_hidden(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    folder = gateway.apis / "pets"
    shutil.copytree(project(gateway.base, backend.url, "/folder"), folder)
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/folder") == 101
    zipped = packed(project(gateway.base, backend.url, "/rest"), "pets")
    assert (await client.deploy(zipped)).status == 409
    assert (await client.deploy(zipped, override=True)).status == 200
    assert await gateway.status("/pets/1.0.0/folder") == 404
    assert await gateway.status("/pets/1.0.0/rest") == 101
    assert gateway.running.catalog.problems == ()
    # Undeployed it is gone, and does not come back from the folder…
    assert (await client.undeploy("Pets")).status == 200
    assert await gateway.status("/pets/1.0.0/folder") == 404
    assert (await client.undeploy("Pets")).status == 404
    # …until its files change.
    definition = folder / "Definitions" / "asyncapi.yaml"
    definition.write_text(definition.read_text().replace("/folder", "/again"))
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/again") == 101
    assert (await client.undeploy("Pets", vhost="localhost")).status == 200
    assert await gateway.status("/pets/1.0.0/again") == 404


async def test_what_was_undeployed_stays_hidden_over_a_restart(base: Path) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        shutil.copytree(project(base, backend.url), base / "apis" / "pets")
        gateway = await start_gateway(nursery, base, admin=True)
        client = await logged_in(gateway)
        assert (await client.undeploy("Pets")).status == 200
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        gateway = await start_gateway(nursery, base)
        assert await gateway.status("/pets/1.0.0/x") == 404
        nursery.cancel_scope.cancel()


async def test_a_damaged_index_is_told_and_nothing_is_overwritten(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    zipped = packed(project(gateway.base, backend.url), "pets")
    assert (await client.deploy(zipped)).status == 200
    index = gateway.base / "deployed" / "index.json"
    index.write_text('{"entries": 1}')
    for answer in (await client.deploy(zipped, override=True), await client.undeploy("Pets")):
        assert answer.status == 500
        assert answer.json()["problems"][0]["file"] == "deployed/index.json"
    assert await gateway.status("/pets/1.0.0/x") == 101  # the last good state
    assert index.read_text() == '{"entries": 1}'
    found = (await client.get("/admin/problems")).json()
    assert [problem["file"] for problem in found] == ["deployed/index.json"]


async def test_another_process_s_deployment_is_seen(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    zipped = packed(project(gateway.base, backend.url), "pets")
    assert (await client.deploy(zipped)).status == 200
    index = gateway.base / "deployed" / "index.json"
    told = json.loads(index.read_text())
    told["entries"][0]["where"] = [["US", "us.wso2.com"]]
    other = index.with_name("other")
    other.write_text(json.dumps(told))
    other.rename(index)
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/x") == 404
    assert await gateway.status("/pets/1.0.0/x", host="us.wso2.com") == 101


async def test_apis_of_every_organisation_are_listed_and_undeployed(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    names = {"carbon.super": "Ours", "elsewhere": "Theirs"}
    for organization, name in names.items():
        data = api(name, f"/{name}", backend.url, organizationId=organization)
        folder = write(gateway.base / "work", name, data, asyncapi({"/*": {"publish": {}}}))
        assert (await client.deploy(packed(folder))).status == 200
    listed = (await client.list()).json()
    assert sorted(one["apiName"] for one in listed["list"]) == ["Ours", "Theirs"]
    assert (await client.undeploy("Theirs")).status == 200
    assert await gateway.status("/Theirs/1.0.0/x") == 404


# -- what runs -----------------------------------------------------------------------------------


async def test_views(gateway: RunningGateway, client: AdminClient, backend: Backend) -> None:
    assert (await client.deploy(packed(project(gateway.base, backend.url), "pets"))).status == 200
    (found,) = (await client.get("/admin/apis")).json()
    assert (found["api"], found["host"], found["topics"]) == ("Pets:1.0.0", "localhost", ["/*"])
    routes = (await client.get("/admin/routes")).json()
    assert routes["digest"] == gateway.running.live.table.digest
    assert [route["path"] for route in routes["routes"]] == ["/pets/1.0.0/*"]
    assert (await client.get("/admin/problems")).json() == []
    client.token = "x"
    for path in ("/admin/apis", "/admin/routes", "/admin/problems", "/admin/connections"):
        assert (await client.get(path)).status == 401


async def test_connections_are_listed_and_closed(
    gateway: RunningGateway, client: AdminClient, backend: Backend
) -> None:
    assert (await client.deploy(packed(project(gateway.base, backend.url), "pets"))).status == 200
    path = "/pets/1.0.0/x?token=y"
    async with gateway.connect(path, gateway.token(), compression=None) as connection:
        for _ in range(3):
            await connection.send("hello")
            await connection.recv()
        answer = await client.get("/admin/connections")
        assert b"token" not in answer.body
        (found,) = answer.json()["connections"]
        assert (found["api"], found["topic"], found["subject"]) == ("Pets:1.0.0", "/*", "admin")
        assert found["publish"] == {"messages": 3, "frames": 3, "bytes": 3 * (2 + 4 + 5)}
        assert found["subscribe"] == {"messages": 3, "frames": 3, "bytes": 3 * (2 + 5)}
        path = f"/admin/connections/{found['id']}"
        headers = {"Authorization": BASIC}
        for code in ("1005", "1006", "1015", "2000", "5000", "x"):
            answer = await client.ask("DELETE", f"{path}?code={code}", headers)
            assert answer.status == 422, code
        assert (await client.ask("DELETE", f"{path}x", headers)).status == 404
        answer = await client.ask("DELETE", f"{path}?code=4001&reason=enough", headers)
        assert (answer.status, answer.body) == (200, b"")
        await connection.wait_closed()
    assert (connection.close_code, connection.close_reason) == (4001, "enough")
    assert (await client.get("/admin/connections")).json() == {
        "total": 0,
        "matching": 0,
        "connections": [],
        "missing": [],
    }
