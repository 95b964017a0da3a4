"""`/testkey` asked by clients that encode forms: the token has the scope that was asked for."""

from __future__ import annotations

import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

SCOPE = "chat:write é"
FIELDS = {"scope": SCOPE, "grant_type": "client_credentials"}


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    backend = await start_echo(nursery)
    topics = {"/chat": {"publish": {"x-scopes": ["chat:write"]}}}
    write(base / "apis", "Chat", api("Chat", "/chat", backend.url), asyncapi(topics))
    return await start_gateway(nursery, base)


async def opens(gateway: RunningGateway, token: str) -> None:
    secret(token)
    async with gateway.connect("/chat/1.0.0/chat", token) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


@pytest.mark.parametrize(
    "form", [{"data": FIELDS}, {"files": {name: (None, text) for name, text in FIELDS.items()}}]
)
async def test_httpx(gateway: RunningGateway, form: dict[str, Any]) -> None:
    url = f"http://localhost:{gateway.port}/testkey"
    async with httpx2.AsyncClient() as client:
        answer = await client.post(url, auth=("admin", "admin"), **form)
    assert answer.status_code == 200
    await opens(gateway, answer.text)


async def test_urllib(gateway: RunningGateway) -> None:
    body = urllib.parse.urlencode(FIELDS).encode()
    request = urllib.request.Request(
        f"http://localhost:{gateway.port}/testkey",
        data=body,
        headers={"Authorization": "Basic YWRtaW46YWRtaW4="},
    )

    def ask() -> str:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return str(answer.read().decode())

    await opens(gateway, await trio.to_thread.run_sync(ask))
