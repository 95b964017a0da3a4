"""The catalogue and the overview by their endpoints: what each role sees."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from support.gateway import start_gateway
from support.portal_client import USERS, portal_client

if TYPE_CHECKING:
    from pathlib import Path

    import trio

DEFINITION = """asyncapi: 2.6.0
info:
  title: {name}
  description: |
    About *{name}*. <script>alert(1)</script>
channels:
  /rooms/{{room}}:
    description: Where people talk about {name}
    publish:
      x-scopes: [{name}:write]
  /open:
    publish:
      x-auth-type: None
components:
  securitySchemes: {{oauth2: {{type: oauth2, flows: {{}}}}}}
"""


def write_api(base: Path, name: str, *, state: str = "PUBLISHED", version: str = "1.0.0") -> None:
    """Write a project into the folder of APIs."""
    folder = base / "apis" / f"{name}-{version}"
    (folder / "Definitions").mkdir(parents=True)
    (folder / "api.yaml").write_text(
        f"data:\n  id: id {name}/{version}\n  name: {name}\n  version: {version}\n"
        f"  context: /{name.lower()}\n  type: WS\n  lifeCycleStatus: {state}\n"
        "  endpointConfig:\n    production_endpoints: {url: 'wss://chat.internal:8443/v2?key=x'}\n"
    )
    (folder / "Definitions" / "asyncapi.yaml").write_text(DEFINITION.format(name=name))


async def test_what_roles_see(nursery: trio.Nursery, tmp_path: Path) -> None:
    for name, state in (("Ann", "PUBLISHED"), ("Bob", "CREATED"), ("Cid", "DEPRECATED")):
        write_api(tmp_path, name, state=state)
    write_api(tmp_path, "Ann", version="2.0.0")
    gateway = await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})
    async with (
        portal_client(gateway, "con") as consumer,
        portal_client(gateway, "pub") as publisher,
    ):
        body = (await consumer.get("/api/apis")).json()
        assert [one["title"] for one in body["items"]] == ["Ann:1.0.0", "Ann:2.0.0", "Cid:1.0.0"]
        body = (await publisher.get("/api/apis")).json()
        assert body["total"] == 4
        assert body["items"][0] == {
            "id": "id Ann/1.0.0",
            "title": "Ann:1.0.0",
            "host": "localhost",
            "open": 0,
            "path": "/ann/1.0.0",
            "state": "PUBLISHED",
            "source": "apis",
            "topics": 2,
            "secured": False,
            "tier": "Unlimited",
            "changed": 0,
            "problems": 0,
            "hit": "",
            "address": "/portal/apis/id%20Ann%2F1.0.0?host=localhost",
        }
        # Words of summaries are found, and shown.
        body = (await consumer.get("/api/apis?q=people+ann&sort=changed")).json()
        assert [one["hit"] for one in body["items"]] == ["Where people talk about Ann"] * 2
        assert time.time() - 3600 < body["items"][0]["changed"] <= time.time() + 1
        assert (await consumer.get("/api/apis?size=201")).status_code == 422
        # The same list as a page.
        page = await consumer.get("/?q=people+ann")
        assert page.text.count("Where people talk about Ann") == 2
        assert "Bob" not in page.text
        # One API: consumers see neither what is not published nor backends.
        assert (await consumer.get("/api/apis/id%20Bob%2F1.0.0")).status_code == 404
        assert (await consumer.get("/apis/id%20Bob%2F1.0.0")).status_code == 404
        assert (await consumer.get("/apis/nobody")).status_code == 404
        facts = (await consumer.get("/api/apis/id%20Ann%2F1.0.0")).json()
        assert facts["urls"][0]["url"] == f"ws://localhost:{gateway.port}/ann/1.0.0"
        assert facts["urls"][1]["url"] == f"wss://localhost:{gateway.tls_port}/ann/1.0.0"
        assert facts["access"]["scopes"] == ["Ann:write"]
        assert facts["access"]["open_topics"] == ["/open"]
        assert [one["title"] for one in facts["siblings"]] == ["Ann:2.0.0"]
        assert "backends" not in facts
        facts = (await publisher.get("/api/apis/id%20Ann%2F1.0.0")).json()
        # Path and query of a backend may hold secrets.
        backend = {"side": "production", "origin": "wss://chat.internal:8443", "healthy": None}
        assert facts["backends"] == [backend]
        page = await consumer.get("/apis/id%20Ann%2F1.0.0")
        assert "<em>Ann</em>" in page.text
        assert "<script>alert" not in page.text
        assert "chat.internal" not in page.text


async def test_an_empty_gateway_shows_how_to_begin(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})
    async with (
        portal_client(gateway, "pub") as publisher,
        portal_client(gateway, "con") as consumer,
    ):
        assert "No API here yet" in (await consumer.get("/")).text
        page = (await publisher.get("/")).text
        assert 'href="/portal/new"' in page or "trio-gw init" in page
        assert (await publisher.get("/api/apis")).json()["items"] == []


async def test_published_apis_without_a_login(nursery: trio.Nursery, tmp_path: Path) -> None:
    write_api(tmp_path, "Ann")
    write_api(tmp_path, "Cid", state="DEPRECATED")
    gateway = await start_gateway(
        nursery, tmp_path, admin=True, admin_settings={"users": USERS}, portal={"anonymous": True}
    )
    async with portal_client(gateway) as anyone:
        body = (await anyone.get("/api/apis")).json()
        assert [one["title"] for one in body["items"]] == ["Ann:1.0.0"]
        assert (await anyone.get("/apis/id%20Ann%2F1.0.0")).status_code == 200
        assert (await anyone.get("/apis/id%20Cid%2F1.0.0")).status_code == 404
