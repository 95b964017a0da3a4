"""The backend JWT end to end: what a real backend sees, and that it can verify it (E17, E18)."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio

from support.assertions import verify
from support.backends import Backend, start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.errors import UnusableError
from trio_gw.guard.certificates import ensure_certificate

if TYPE_CHECKING:
    from pathlib import Path


JWKS = "/.wellknown/jwks"
DIALECT = "http://wso2.org/claims"


async def serve(
    nursery: trio.Nursery, base: Path, **settings: Any
) -> tuple[RunningGateway, Backend]:
    backend = await start_echo(nursery)
    topics = {
        "/closed": {"subscribe": {}},
        "/open": {"subscribe": {"x-auth-type": "None"}},
    }
    write(base / "apis", "Chat", api("Chat", "/chat", backend.url), asyncapi(topics))
    proto = api("Proto", "/proto", backend.url, lifeCycleStatus="PROTOTYPED")
    write(base / "apis", "Proto", proto, asyncapi({"/closed": {"subscribe": {}}}))
    return await start_gateway(nursery, base, **settings), backend


async def seen(
    gateway: RunningGateway,
    backend: Backend,
    path: str,
    token: str | None = None,
    header: str = "X-JWT-Assertion",
    **more: Any,
) -> list[str]:
    """Connect; return the values of the header that the backend saw."""
    async with gateway.connect(path, token, **more) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    found: list[str] = backend.requests[-1].headers.get_all(header)
    return found


@pytest.mark.parametrize("encoding", ["base64", "base64url"])
async def test_e17_e18_a_backend_verifies_who_calls(
    nursery: trio.Nursery, base: Path, encoding: str
) -> None:
    table = {"enabled": True, "encoding": encoding}
    gateway, backend = await serve(nursery, base, backend_jwt=table)
    before = int(time.time())
    token, other = gateway.token("a", "b"), gateway.token("a", "b")
    (assertion,) = await seen(gateway, backend, "/chat/1.0.0/closed", token)
    answer = await gateway.get(JWKS)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    head, claims, key = verify(assertion, answer.body)
    assert head == {"typ": "JWT", "alg": "RS256", "kid": key.key_id}
    assert (key.key_type, key.public_key_use, key.algorithm_name) == ("RSA", "sig", "RS256")
    if encoding == "base64url":  # what a backend does with a library
        assert jwt.decode(assertion, key, ["RS256"], issuer="wso2.org/products/am") == claims
    assert claims["iss"] == "wso2.org/products/am"
    assert claims[f"{DIALECT}/keytype"] == "PRODUCTION"
    assert claims["exp"] - claims["iat"] == 3600
    assert before <= claims["iat"] <= time.time() < claims["exp"]
    assert claims[f"{DIALECT}/enduser"] == "admin"
    assert claims[f"{DIALECT}/apicontext"] == "/chat/1.0.0"
    assert claims[f"{DIALECT}/applicationname"] == "anon:MGW"
    assert claims["scope"] == "a b"
    # The same token of the client gives the same one, over TLS too; another gives another.
    assert await seen(gateway, backend, "/chat/1.0.0/closed", token, tls=True) == [assertion]
    assert await seen(gateway, backend, "/chat/1.0.0/closed", other) != [assertion]


@pytest.mark.parametrize("path", ["/chat/1.0.0/open", "/proto/1.0.0/closed"])
@pytest.mark.parametrize("token", [False, True], ids=["bare", "token"])
async def test_nothing_is_said_about_callers_nobody_checked(
    nursery: trio.Nursery, base: Path, path: str, token: bool
) -> None:
    gateway, backend = await serve(nursery, base, backend_jwt={"enabled": True})
    assert await seen(gateway, backend, path, gateway.token() if token else None) == []


@pytest.mark.parametrize("enabled", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("path", ["/chat/1.0.0/open", "/chat/1.0.0/closed"])
@pytest.mark.parametrize("header", ["X-Who", "X-JWT-Assertion"])
async def test_a_client_cannot_send_it(
    nursery: trio.Nursery, base: Path, enabled: bool, path: str, header: str
) -> None:
    settings = {"enabled": enabled, "header": header}
    gateway, backend = await serve(nursery, base, backend_jwt=settings, forward_credentials=True)
    forged = [
        (header, "forged"),
        (header.upper(), "forged"),
        (header.replace("-", "_"), "forged"),
    ]
    await seen(gateway, backend, path, gateway.token(), additional_headers=forged)
    headers = backend.requests[-1].headers
    assert "forged" not in [value for _, value in headers.raw_items()]
    assert len(headers.get_all(header)) == (enabled and path.endswith("closed"))


async def test_a_pair_of_its_own(nursery: trio.Nursery, base: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ensure_certificate(base / "certs/backend.pem", base / "certs/backend.key", now)
    table = {
        "enabled": True,
        "certificate": "certs/backend.pem",
        "key": "certs/backend.key",
        "encoding": "base64url",
        "validity": 60,
    }
    gateway, backend = await serve(nursery, base, backend_jwt=table)
    (assertion,) = await seen(gateway, backend, "/chat/1.0.0/closed", gateway.token())
    keys = jwt.PyJWKSet.from_json((await gateway.get(JWKS, tls=True)).body.decode())
    claims = jwt.decode(assertion, keys.keys[0], algorithms=["RS256"])
    assert claims["exp"] - claims["iat"] == 60
    # What it signs opens no API: it is no issuer's.
    refused = await gateway.ask(gateway.handshake("/chat/1.0.0/closed", assertion))
    assert refused.status == 401


async def test_a_key_that_is_not_there(nursery: trio.Nursery, base: Path) -> None:
    table = {"enabled": True, "certificate": "certs/mg.pem", "key": "certs/none.key"}
    with pytest.RaisesGroup(UnusableError, flatten_subgroups=True) as caught:
        async with trio.open_nursery() as inner:
            await serve(inner, base, backend_jwt=table)
    assert "certs/none.key" in str(caught.value.exceptions[0])


async def test_e18_too_many_questions(nursery: trio.Nursery, base: Path) -> None:
    table = {"enabled": True, "jwks_limit": 5, "jwks_window": 600}
    gateway, _ = await serve(nursery, base, backend_jwt=table)
    answers = [await gateway.get(JWKS) for _ in range(10)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 5
    assert 590 <= int(answers[-1].headers["retry-after"]) <= 600
    assert answers[-1].json()["code"] == "429"
    assert (await gateway.get("/health")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
async def test_the_keys_are_for_get_alone(nursery: trio.Nursery, base: Path, method: str) -> None:
    gateway, _ = await serve(nursery, base, backend_jwt={"enabled": True})
    answer = await gateway.get(JWKS, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


async def test_no_keys_where_it_is_off(nursery: trio.Nursery, base: Path) -> None:
    gateway, backend = await serve(nursery, base)
    assert (await gateway.get(JWKS)).status == 404
    assert (await gateway.get(JWKS + "/")).status == 404
    assert await seen(gateway, backend, "/chat/1.0.0/closed", gateway.token()) == []
