"""The portal end to end: login, a page, its headers, and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.gateway import start_gateway
from support.portal_client import USERS, portal_client, title

if TYPE_CHECKING:
    from pathlib import Path

    import trio


async def test_from_the_login_to_a_page(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})
    async with portal_client(gateway) as browser:
        answer = await browser.get("/")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/portal/login?next=/portal/"
        answer = await browser.get("/login?next=/portal/apis/x")
        assert answer.status_code == 200
        assert title(answer) == "Log in · trio-gw"
        assert 'value="/portal/apis/x"' in answer.text
        answer = await browser.login("con")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/portal/"
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"__Host-trio-gw-{gateway.admin_port}=")
        assert cookie.endswith("; HttpOnly; Path=/; SameSite=strict; Secure")
        answer = await browser.get("/")
        assert answer.status_code == 200
        assert title(answer) == "APIs · trio-gw"
        answer = await browser.get("/api/session")
        assert answer.json()["role"] == "consumer"
        assert (await browser.get("/nowhere")).status_code == 404
        assert (await browser.submit("/logout", {})).status_code == 303
        assert (await browser.get("/api/session")).status_code == 401


async def test_the_listener_without_tls(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})
    async with portal_client(gateway, plain=True) as browser:
        answer = await browser.login("con")
        assert answer.headers["location"] == "/portal/"
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"trio-gw-{gateway.portal_port}=")
        assert cookie.endswith("; HttpOnly; Path=/; SameSite=strict")
        assert (await browser.get("/")).status_code == 200
        answer = await browser.http.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "/portal/")
        assert (await browser.http.get("/admin/apis")).status_code == 404
        assert (await browser.http.get("/api/mgw/adapter/0.1/apis")).status_code == 404
        for host in ("portal.example", "127.0.0.2.example", "10.0.0.1", "localhost.", "[::2]"):
            answer = await browser.get("/", Host=host)
            assert answer.status_code == (200 if host == "localhost." else 421), host
        for host in ("127.0.0.1", "[::1]", "LOCALHOST", f"localhost:{gateway.portal_port}"):
            assert (await browser.get("/", Host=host)).status_code == 200
