"""A client of the portal that behaves as a browser does: cookies, `Origin`, the script's header."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import httpx2

from support.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.gateway import RunningGateway

USERS = (
    {"username": "ada", "password": secret("ohTh4aid"), "role": "admin"},
    {"username": "pub", "password": secret("eiQu8xae"), "role": "publisher"},
    {"username": "con", "password": secret("Aip1ohwu"), "role": "consumer"},
)
PASSWORDS = {user["username"]: user["password"] for user in USERS}


class PortalClient:
    """One browser's worth of requests to one gateway."""

    def __init__(self, http: httpx2.AsyncClient, origin: str) -> None:
        self.http = http
        self.origin = origin

    @property
    def cookie(self) -> str:
        """The value of the session cookie, empty without a session."""
        return next((one.value or "" for one in self.http.cookies.jar), "")

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        """Ask for a page or for JSON below /portal."""
        return await self.http.get(f"/portal{path}", headers=headers)

    async def send(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        """Send JSON as the scripts of the portal do; a header that is empty is left out."""
        given = {"Origin": self.origin, "X-Trio-GW": "1", **(headers or {})}
        given = {name: value for name, value in given.items() if value}
        return await self.http.request(method, f"/portal{path}", json=body, headers=given)

    async def submit(self, path: str, fields: dict[str, str], **headers: str) -> httpx2.Response:
        """Send a form."""
        given = {"Origin": self.origin, **headers}
        given = {name: value for name, value in given.items() if value}
        return await self.http.post(f"/portal{path}", data=fields, headers=given)

    async def login(self, user: str, password: str | None = None) -> httpx2.Response:
        """Log in with the form."""
        given = PASSWORDS[user] if password is None else secret(password)
        return await self.submit("/login", {"user": user, "password": given})


@contextlib.asynccontextmanager
async def portal_client(
    gateway: RunningGateway, user: str = "", *, plain: bool = False, port: int = 0
) -> AsyncIterator[PortalClient]:
    """Make a client, logged in as `user` if one is given; `plain`: of the listener without TLS.

    `port` is that of another listener with TLS than that of the admin API.
    """
    origin = f"https://localhost:{port or gateway.admin_port}"
    if plain:
        origin = f"http://localhost:{gateway.portal_port}"
    async with httpx2.AsyncClient(
        base_url=origin, verify=gateway.trust(), trust_env=False, timeout=60
    ) as http:
        client = PortalClient(http, origin)
        if user:
            answer = await client.login(user)
            assert answer.status_code == 303, answer.text
            secret(client.cookie)
        yield client


def title(answer: Any) -> str:
    """Return the title of a page."""
    found = re.search(r"<title>(.*?)</title>", answer.text, re.DOTALL)
    return found[1] if found else ""
