"""Applications over the portal: who may do what, keys, subscriptions, tokens, secrets, pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.applications import Client, ask_token, claims_of, token_of
from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.portal_client import USERS, PortalClient, portal_client
from support.projects import api, asyncapi, write
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    import trio

CHANNELS: dict[str, Any] = {"/a": {"publish": {"x-scopes": ["read", "write"]}}}
API = "rooms-id"


async def start(base: Path, nursery: trio.Nursery, **settings: Any) -> RunningGateway:
    """Start a gateway with the API Rooms and three users."""
    echo = await start_echo(nursery)
    meta = api("Rooms", "/rooms", echo.url, id=API)
    write(base / "apis", "Rooms", meta, asyncapi(CHANNELS))
    return await start_gateway(
        nursery, base, admin=True, admin_settings={"users": USERS}, **settings
    )


async def new(browser: PortalClient, name: str = "Shop", **more: Any) -> Any:
    answer = await browser.send("POST", "/api/applications", {"name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def with_key(browser: PortalClient, app: Any, kind: str = "PRODUCTION") -> Client:
    answer = await browser.send("POST", f"/api/applications/{app['uuid']}/keys/{kind}", {})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["token_url"].endswith("/oauth2/token")
    return Client(app["uuid"], made["consumer_key"], secret(made["consumer_secret"]))


async def test_from_an_application_to_a_connection(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery)
    async with portal_client(gateway, "con") as con, portal_client(gateway, "pub") as pub:
        app = await new(con, description="for tests", tier="50PerMin")
        path = f"/api/applications/{app['uuid']}"
        assert (app["owner"], app["keys"], app["subscriptions"]) == ("con", {}, [])
        client = await with_key(con, app)
        answer = await con.send("PUT", f"{path}/subscriptions/{API}", {"tier": "10PerMin"})
        assert (answer.status_code, answer.json()["title"]) == (201, "Rooms:1.0.0")
        token = await token_of(gateway, client, scope="read")
        assert claims_of(token)["subscribedAPIs"][0]["subscriptionTier"] == "10PerMin"
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 101

        # The publisher sees who is subscribed, and blocks; the consumer cannot unblock.
        listed = (await pub.get(f"/api/apis/{API}/subscriptions")).json()
        assert listed["items"][0]["application"]["owner"] == "con"
        assert (await pub.get(path)).status_code == 404
        blocked = {"state": "BLOCKED"}
        answer = await pub.send("PUT", f"{path}/subscriptions/{API}", {**blocked, "tier": "x"})
        assert answer.status_code == 403
        answer = await pub.send("PUT", f"{path}/subscriptions/{API}", blocked)
        assert (answer.status_code, answer.json()["state"]) == (200, "BLOCKED")
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 401
        answer = await con.send("PUT", f"{path}/subscriptions/{API}", {"state": "UNBLOCKED"})
        assert answer.status_code == 403
        answer = await con.send("PUT", f"{path}/subscriptions/{API}", {"tier": "AsyncGold"})
        assert answer.json()["state"] == "BLOCKED"
        await pub.send("PUT", f"{path}/subscriptions/{API}", {"state": "UNBLOCKED"})
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 101

        # One token, a new secret, the key, the subscription, the application.
        answer = await con.send("POST", "/api/revocations", {"jti": claims_of(token)["jti"]})
        assert answer.status_code == 204
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 401
        token = await token_of(gateway, client)
        answer = await con.send("POST", f"{path}/keys/PRODUCTION", {"validity": 60})
        again = client._replace(secret=secret(answer.json()["consumer_secret"]))
        assert answer.json()["consumer_key"] == client.consumer_key
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 401
        assert (await ask_token(gateway, client)).status == 401
        assert (await ask_token(gateway, again)).json()["expires_in"] == 60
        assert (await con.send("DELETE", f"{path}/subscriptions/{API}")).status_code == 204
        assert (await con.send("DELETE", f"{path}/subscriptions/{API}")).status_code == 404
        assert (await con.send("DELETE", f"{path}/keys/PRODUCTION")).status_code == 204
        assert (await con.send("DELETE", path)).status_code == 204
        assert (await con.get(path)).status_code == 404
    for line in (base / "portal" / "audit.jsonl").read_text().splitlines():
        assert client.secret not in line
        assert again.secret not in line
        assert json.loads(line)["user"] in ("con", "pub")
    assert client.secret not in (base / "portal" / "registry.json").read_text()


async def test_people_see_their_own(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery)
    async with (
        portal_client(gateway, "con") as con,
        portal_client(gateway, "pub") as pub,
        portal_client(gateway, "ada") as ada,
    ):
        app, other = await new(con), await new(pub)
        client = await with_key(con, app)
        path = f"/api/applications/{app['uuid']}"
        for method, rest, body in [
            ("GET", "", None),
            ("PATCH", "", {"name": "Mine"}),
            ("DELETE", "", None),
            ("POST", "/keys/SANDBOX", {}),
            ("DELETE", "/keys/PRODUCTION", None),
            ("DELETE", f"/subscriptions/{API}", None),
        ]:
            assert (await pub.send(method, path + rest, body)).status_code == 404, (method, rest)
        for page in ("", "/remove", f"/subscriptions/{API}"):
            fields = {"name": "Mine", "confirm": "Shop", "tier": "Unlimited"}
            found = await pub.submit(f"/applications/{app['uuid']}{page}", fields)
            assert found.status_code == 404, page
        assert (await pub.get(f"/applications/{app['uuid']}")).status_code == 404
        assert [one["uuid"] for one in (await con.get("/api/applications")).json()["items"]] == [
            app["uuid"]
        ]
        assert (await ada.get("/api/applications")).json()["total"] == 2
        assert (await ada.get("/api/applications?q=con&size=1")).json()["total"] == 1
        assert (await ada.get("/api/applications?size=x")).status_code == 422
        answer = await con.send("PUT", f"/api/applications/{other['uuid']}/subscriptions/{API}", {})
        assert answer.status_code == 404
        for what in ({"subject": "ada"}, {"consumer_key": "foreign"}):
            assert (await con.send("POST", "/api/revocations", what)).status_code == 404
        for what in ({}, {"jti": "a", "subject": "con"}, {"jti": "a\nb"}):
            assert (await con.send("POST", "/api/revocations", what)).status_code == 422
        # Somebody who knows the id of a foreign token cannot revoke it.
        await con.send("PUT", f"{path}/subscriptions/{API}", {})
        token = await token_of(gateway, client)
        jti = {"jti": claims_of(token)["jti"]}
        assert (await pub.send("POST", "/api/revocations", jti)).status_code == 204
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 101
        key = {"consumer_key": client.consumer_key}
        assert (await con.send("POST", "/api/revocations", key)).status_code == 204
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 401
        token = await token_of(gateway, client)
        assert (await ada.send("POST", "/api/revocations", {"subject": "con"})).status_code == 204
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 401
        for name, tier, status in [
            ("", "Unlimited", 422),
            ("shop", "Unlimited", 409),
            ("New", "None such", 422),
        ]:
            body = {"name": name, "tier": tier}
            assert (await con.send("POST", "/api/applications", body)).status_code == status
        assert (await con.send("POST", f"{path}/keys/OTHER", {})).status_code == 404
        assert (await con.send("POST", f"{path}/keys/SANDBOX", {"validity": 59})).status_code == 422
        answer = await con.send("PUT", f"{path}/subscriptions/none", {})
        assert answer.status_code == 404
        names = [one["name"] for one in (await con.get("/api/tiers")).json()["items"]]
        assert "AsyncGold" in names
        places = (await con.get("/api/environments")).json()["items"]
        assert places[0]["name"] == "Default"


async def test_one_click_subscribes(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery)
    async with portal_client(gateway, "con") as con, portal_client(gateway, "pub") as pub:
        answer = await con.submit(f"/apis/{API}/subscribe", {})
        assert answer.status_code == 303
        page = await con.get(answer.headers["location"].removeprefix("/portal"))
        assert "My application" in page.text
        assert "Rooms:1.0.0" in page.text
        await new(con, "<script>alert(1)</script>")
        answer = await con.submit(f"/apis/{API}/subscribe", {})
        assert answer.headers["location"] == f"/portal/apis/{API}/subscribe"
        page = await con.get(f"/apis/{API}/subscribe")
        assert "<script>alert" not in page.text
        answer = await con.submit(
            f"/apis/{API}/subscribe", {"application": "new", "name": "Second", "tier": "AsyncGold"}
        )
        assert answer.status_code == 303
        listed = (await pub.get(f"/api/apis/{API}/subscriptions")).json()
        assert [one["tier"] for one in listed["items"]] == ["Unlimited", "AsyncGold"]
        first = listed["items"][0]["application"]["uuid"]
        answer = await con.submit(f"/apis/{API}/subscribers/{first}", {"state": "BLOCKED"})
        assert answer.status_code == 403
        answer = await pub.submit(f"/apis/{API}/subscribers/{first}", {"state": "BLOCKED"})
        assert answer.status_code == 303
        assert "blocked" in (await pub.get(f"/apis/{API}/subscribe")).text
        path = f"/applications/{first}"
        answer = await con.submit(
            path, {"name": "Renamed", "description": "x", "tier": "AsyncGold"}
        )
        assert answer.status_code == 303
        answer = await con.submit(f"{path}/subscriptions/{API}", {"do": "remove"})
        assert answer.status_code == 303
        assert (await con.submit(f"{path}/remove", {"confirm": "no"})).status_code == 422
        assert (await con.submit(f"{path}/remove", {"confirm": "Renamed"})).status_code == 303
        assert (await con.get("/applications")).status_code == 200
