"""The listener for consumers: the portal with TLS, where everybody is at most a consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from support.gateway import start_gateway
from support.portal_client import USERS, portal_client
from trio_gw.config.settings_file import load
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from pathlib import Path

    import trio


async def test_everybody_is_a_consumer_there(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start_gateway(
        nursery,
        tmp_path,
        admin=True,
        admin_settings={"users": USERS},
        portal={"listen": "localhost:0", "hosts": ["apis.example"]},
    )
    consumers = gateway.running.addresses.consumers
    assert consumers is not None
    async with portal_client(gateway, "ada") as admin:
        assert (await admin.get("/operate")).status_code == 200
        stolen = admin.cookie
    async with portal_client(gateway, "ada", port=consumers[1]) as ada:
        assert (await ada.get("/api/session")).json()["role"] == "consumer"
        assert (await ada.get("/")).status_code == 200
        for page in ("/operate", "/operate/connections", "/new"):
            assert (await ada.get(page)).status_code == 403, page
        for path in ("/api/connections", "/api/settings", "/api/log"):
            assert (await ada.get(path)).status_code == 403, path
        refused = await ada.send("POST", "/api/deployments", {"files": {}})
        assert refused.status_code == 403
        # The cookie of another listener, by the name that this one reads, opens no more.
        name = f"__Host-trio-gw-{consumers[1]}"
        ada.http.cookies.clear()
        answer = await ada.get("/api/session", Cookie=f"{name}={stolen}")
        assert answer.json()["role"] == "consumer"
        assert (await ada.get("/operate", Cookie=f"{name}={stolen}")).status_code == 403
        for path in ("/admin/apis", "/metrics", "/api/mgw/adapter/0.1/apis", "/swagger.json"):
            assert (await ada.http.get(path, auth=("ada", USERS[0]["password"]))).status_code == 404
        assert (await ada.get("/login", Host="evil.example")).status_code == 421
        assert (await ada.get("/login", Host="apis.example")).status_code == 200


async def test_it_needs_tls(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start_gateway(
        nursery,
        tmp_path,
        admin=True,
        admin_settings={"users": USERS},
        portal={"listen": "localhost:0"},
    )
    consumers = gateway.running.addresses.consumers
    assert consumers is not None
    async with httpx2.AsyncClient(trust_env=False) as plain:
        answer = await plain.get(f"http://localhost:{consumers[1]}/portal/login")
        assert answer.status_code == 400


def test_an_address_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[portal]\nlisten = "nowhere"\n')
    with pytest.raises(UnusableError) as caught:
        load(tmp_path / "gateway.toml", {})
    (problem,) = caught.value.problems
    assert (problem.line, "portal.listen 'nowhere'" in problem.what) == (2, True)
