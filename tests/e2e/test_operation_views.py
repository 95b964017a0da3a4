"""What an operator sees of one gateway: refusals, endings, limits, backends that are down."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from support.adminapi import AdminClient, logged_in
from support.backends import start_echo
from support.gateway import start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    import trio

OPEN = {"publish": {}, "x-auth-type": "None"}
TIERS = {"Few": {"events": 2, "per": "31d", "count": "publish", "on_exceed": "drop"}}


async def post(client: AdminClient, path: str, body: bytes) -> Any:
    """Send JSON."""
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
    return await client.ask("POST", path, {**headers, "Content-Length": str(len(body))}, body)


async def test_what_an_operator_sees(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    topics = asyncapi({"/open": OPEN, "/closed": {"publish": {}}})
    write(
        base / "apis", "chat", api("Chat", "/chat", backend.url, apiThrottlingPolicy="Few"), topics
    )
    write(base / "apis", "down", api("Down", "/down", "ws://127.0.0.1:1"), asyncapi({"/x": OPEN}))
    gateway = await start_gateway(
        nursery, base, admin=True, tiers=TIERS, limits={"connections_per_api": 1}
    )
    client = await logged_in(gateway)
    for path, status in (("/nowhere", 404), ("/chat/1.0.0/closed", 401), ("/down/1.0.0/x", 503)):
        assert await gateway.status(path, token="") == status
    assert await gateway.status("/down/1.0.0/x", token="") == 503
    async with gateway.connect("/chat/1.0.0/open", user_agent_header="probe/1") as client_socket:
        for number in range(3):
            await client_socket.send(f"m{number}")
        assert [await client_socket.recv() for _ in range(2)] == ["m0", "m1"]

        found = (await client.get("/admin/limits")).json()
        (tier,) = found["tiers"]
        assert (tier["level"], tier["key"], tier["tier"], tier["action"]) == (
            "API",
            "/chat/1.0.0:1.0.0",
            "Few",
            "drop",
        )
        assert tier["until"] > time.time()
        assert found["caps"] == [{"level": "API", "key": "/chat/1.0.0:1.0.0", "open": 1, "most": 1}]
        assert await gateway.status("/chat/1.0.0/open", token="") == 503

        (row,) = (await client.get("/admin/connections?match=api:chat")).json()["connections"]
        assert (row["backend"], row["user_agent"]) == (backend.url, "probe/1")
        assert (await client.get("/admin/connections?match=address:10.0.0.0/8")).json()[
            "matching"
        ] == 0
        assert (await client.get("/admin/connections?match=address:x")).status == 422

    rows = (await client.get("/admin/endings")).json()["endings"]
    while len(rows) < 6:
        rows = (await client.get("/admin/endings")).json()["endings"]
    assert [(row["status"], row["phase"], row["by"], row["code"]) for row in rows] == [
        (101, "relay", "client", 1000),
        (503, "admit", "gateway", 0),
        (503, "dial", "backend", 0),
        (503, "dial", "backend", 0),
        (401, "authenticate", "client", 0),
        (404, "route", "client", 0),
    ]
    assert (rows[0]["messages_in"], rows[0]["messages_out"]) == (3, 2)
    assert rows[4]["error"] == "900901" or rows[4]["error"].startswith("9009")

    found = (await client.get("/admin/backends")).json()["backends"]
    assert [(row["origin"], row["healthy"], row["apis"]) for row in found] == [
        ("ws://127.0.0.1:1", False, ["Down:1.0.0"]),
        (backend.url, True, ["Chat:1.0.0"]),
    ]
    assert found[0]["since"] <= time.time()

    body = b'{"match": "", "code": 1006, "expect": 0}'
    assert (await post(client, "/admin/connections/close", body)).status == 422
    assert (await post(client, "/admin/connections/close", b'{"match": ""}')).status == 422
    assert (await post(client, "/admin/connections/close", b"{")).status == 400
    for wrong in (
        b'{"kind": "address", "key": "nowhere"}',
        b'{"kind": "user", "key": "eve", "invert": true}',
        b'{"kind": "planet", "key": "x"}',
        b'{"kind": "user", "key": "eve", "reason": "two\\nlines"}',
    ):
        assert (await post(client, "/admin/denials", wrong)).status == 422
    answer = await client.ask(
        "DELETE", "/admin/denials?kind=user&key=eve", {"Authorization": f"Bearer {client.token}"}
    )
    assert answer.status == 404
