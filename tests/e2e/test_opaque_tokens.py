"""Opaque tokens on handshakes, as the settings ask for them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.backends import Backend, start_echo
from support.gateway import RunningGateway, start_gateway
from support.issuers import HttpServer, form, sign, start_http
from support.projects import api, asyncapi, write
from support.secrets import secret
from trio_gw.guard.certificates import load_pair

if TYPE_CHECKING:
    from pathlib import Path

    import trio

ISSUER = "https://as.example"
PASSWORD = secret("a-client-secret-0123456789")
GOOD = secret("opaque-token-that-is-good-01")
STRANGE = secret("opaque-token-that-is-not-02")
SLOW = secret("opaque-token-with-trouble-03")


class World:
    """A gateway, what is behind it, and who it asks."""

    def __init__(self, gateway: RunningGateway, backend: Backend, server: HttpServer) -> None:
        self.gateway = gateway
        self.backend = backend
        self.server = server

    async def refused(self, token: str, path: str = "/o/1.0.0/any") -> tuple[int, str]:
        """Return status and code; nothing of the token stands in the answer."""
        answer = await self.gateway.ask(self.gateway.handshake(path, token))
        assert token.encode() not in answer.raw
        assert PASSWORD.encode() not in answer.raw
        return answer.status, answer.json()["code"]


@pytest.fixture
async def world(nursery: trio.Nursery, base: Path) -> World:
    def respond(_: bytes, body: bytes) -> tuple[int, bytes]:
        token = form(body)["token"]
        if token == SLOW:
            return 500, b"trouble"
        if token != GOOD:
            return 200, b'{"active":false}'
        found = {"active": True, "sub": "carol", "scope": "read", "exp": int(time.time()) + 60}
        return 200, json.dumps(found).encode()

    server = await start_http(nursery, respond)
    backend = await start_echo(nursery)
    channels: dict[str, Any] = {
        "/any": {"publish": {}},
        "/scoped": {"publish": {"x-scopes": ["write"]}},
    }
    write(base / "apis", "o", api("O", "/o", backend.url), asyncapi(channels))
    issuer = {
        "issuer": ISSUER,
        "introspection_url": server.url("/introspect"),
        "client_id": "gateway",
        "client_secret": PASSWORD,
    }
    own = {"issuer": "https://localhost:9095/testkey", "certificate": "certs/mg.pem"}
    gateway = await start_gateway(nursery, base, issuers=[issuer, own])
    return World(gateway, backend, server)


async def test_an_opaque_token_opens_and_stays_with_the_gateway(world: World) -> None:
    for _ in range(3):
        async with world.gateway.connect("/o/1.0.0/any", GOOD) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
    assert len(world.server.requests) == 1
    assert GOOD not in str([request.headers for request in world.backend.requests])
    assert await world.refused(GOOD, "/o/1.0.0/scoped") == (403, "900910")


async def test_it_may_stand_among_the_subprotocols(world: World) -> None:
    protocols: Any = ["bearer", GOOD]
    async with world.gateway.connect("/o/1.0.0/any", subprotocols=protocols) as client:
        assert client.subprotocol == "bearer"


async def test_one_that_nobody_knows(world: World) -> None:
    assert await world.refused(STRANGE) == (401, "900904")
    assert world.backend.requests == []


async def test_an_issuer_with_trouble(world: World) -> None:
    answer = await world.gateway.ask(world.gateway.handshake("/o/1.0.0/any", SLOW))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "www-authenticate" not in answer.headers
    assert SLOW.encode() not in answer.raw


async def test_signed_tokens_are_checked_here_and_nobody_is_asked(world: World, base: Path) -> None:
    async with world.gateway.connect("/o/1.0.0/any", world.gateway.token()):
        pass
    pair = load_pair(base / "certs" / "mg.pem", base / "certs" / "mg.key")
    # That issuer has no keys: no signature of its can be checked.
    claims = {"iss": ISSUER, "exp": int(time.time()) + 60}
    assert await world.refused(sign(pair.private_key, claims)) == (401, "900900")
    assert world.server.requests == []
