"""The portal of a gateway with three real workers: any of them answers for all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx2

from support.admin_workers import start_admin_workers
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from support.commands import Serving

REQUESTS = 12  # on connections of their own: more than one worker takes


async def test_a_session_holds_and_ends_in_all_workers(
    base: Path, running: list[Serving], nursery: trio.Nursery
) -> None:
    group = await start_admin_workers(base, running, nursery)
    found = re.search(r"portal on http://127\.0\.0\.1:(\d+)/portal/", group.err)
    assert found is not None
    origin = f"http://localhost:{found[1]}"
    own = {"Origin": origin}
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(base_url=origin, limits=limits, trust_env=False) as browser:
        form = {"user": "admin", "password": "admin"}
        answer = await browser.post("/portal/login", data=form, headers=own, timeout=60)
        assert answer.status_code == 303
        (cookie,) = browser.cookies.jar
        stolen = f"{cookie.name}={secret(cookie.value or '')}"
        for _ in range(REQUESTS):
            answer = await browser.get("/portal/api/session", timeout=60)
            assert answer.json()["user"] == "admin"
            assert answer.json()["default_password"] is True
        await browser.post("/portal/logout", headers=own)
        browser.cookies.clear()
        for _ in range(REQUESTS):
            answer = await browser.get("/portal/api/session", headers={"Cookie": stolen})
            assert answer.status_code == 401
    # The worker that started the portal is not the only one that did.
    page = await group.ask("/portal/login")
    assert page.status == 421  # the host of this client is no name of the gateway
