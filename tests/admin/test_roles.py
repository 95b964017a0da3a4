"""What each role may do at the admin API: publishers deploy, and only admins do the rest."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from support.adminapi import BASE, AdminClient, form, packed
from support.gateway import start_gateway
from support.portal_client import PASSWORDS, USERS
from trio_gw.admin.app import Operation
from trio_gw.guard.roles import Role

if TYPE_CHECKING:
    import trio

ECHO = Path(__file__).parents[2] / "apis" / "Echo-1.0.0"
ADMIN_ONLY = (
    *(("GET", "/metrics"), ("GET", "/admin/apis"), ("GET", "/admin/routes")),
    *(("GET", "/admin/problems"), ("GET", "/admin/stats"), ("GET", "/admin/denials")),
    *(("GET", "/admin/connections"), ("DELETE", "/admin/connections/none")),
)


def basic(user: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{PASSWORDS[user]}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


async def test_each_role_at_the_admin_api(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})
    for user in PASSWORDS:
        client = AdminClient(gateway)
        login = await client.login(user, PASSWORDS[user])
        assert login.status == (403 if user == "con" else 200)
        for method, path in ADMIN_ONLY:
            expected = 404 if method == "DELETE" else 200
            answer = await client.ask(method, path, basic(user))
            assert answer.status == (expected if user == "ada" else 403), (user, path)
            if user == "pub":
                answer = await client.ask(method, path, {"Authorization": f"Bearer {client.token}"})
                assert answer.status == 403
        body, kind = form(packed(ECHO))
        for method, path, headers, content in (
            ("GET", f"{BASE}/apis", {}, b""),
            ("POST", f"{BASE}/apis?override=true", {"Content-Type": kind}, body),
            ("DELETE", f"{BASE}/apis?apiName=Echo&version=1.0.0", {}, b""),
        ):
            answer = await client.ask(method, path, {**headers, **basic(user)}, content)
            assert answer.status == (403 if user == "con" else 200), (user, method)


def test_a_new_operation_is_for_admins() -> None:
    async def handle(*_: object) -> object:
        raise AssertionError

    assert Operation(handle).role is Role.ADMIN  # type: ignore[arg-type]
