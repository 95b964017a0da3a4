"""Registered applications over real sockets: tokens, subscriptions, limits, revocations."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import trio
from websockets.exceptions import ConnectionClosed

from support.applications import (
    FORM,
    Client,
    ask_token,
    change,
    claims_of,
    register,
    token_of,
)
from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.logged import logged
from support.projects import api, asyncapi, write
from support.secrets import secret
from trio_gw.config import registry_changes as changes
from trio_gw.config.registry import Registry, digest
from trio_gw.config.registry_changes import SubscribedApi

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROOMS = SubscribedApi("rooms-id", "Rooms", "1.0.0", "/rooms/1.0.0")
OTHER = SubscribedApi("other-id", "Other", "1.0.0", "/other/1.0.0")
CHANNELS: dict[str, Any] = {
    "/a": {"publish": {"x-scopes": ["read", "write"]}},
    "/b": {"publish": {}},
}


async def start(base: Path, nursery: trio.Nursery, **settings: Any) -> RunningGateway:
    """Start a gateway with the APIs Rooms and Other."""
    echo = await start_echo(nursery)
    sandbox = {"sandbox_endpoints": {"url": echo.url}}
    for one, channels in ((ROOMS, CHANNELS), (OTHER, {"/x": {"publish": {"x-scopes": ["x"]}}})):
        endpoints = {"production_endpoints": {"url": echo.url}, **sandbox}
        data = {"id": one.id, "endpointConfig": {"endpoint_type": "ws", **endpoints}}
        context = one.context.removesuffix("/1.0.0")
        write(base / "apis", one.name, api(one.name, context, None, **data), asyncapi(channels))
    return await start_gateway(nursery, base, **settings)


async def closes(
    gateway: RunningGateway, token: str, act: Callable[[], object], reason: str
) -> None:
    """Connect, do something, and be closed within a second."""
    async with gateway.connect("/rooms/1.0.0/a", token) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        act()
        began = time.monotonic()
        with trio.fail_after(5), pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert time.monotonic() - began < 1.2
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, reason)


async def test_a_token_opens_what_the_application_is_subscribed_to(
    base: Path, nursery: trio.Nursery
) -> None:
    gateway = await start(base, nursery)
    client = register(base, ROOMS, subscription_tier="10PerMin", tier="50PerMin")
    answer = await ask_token(gateway, client, {"scope": "read foreign x"})
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    token = secret(body.pop("access_token"))
    assert body == {"token_type": "Bearer", "expires_in": 3600, "scope": "read"}
    claims = claims_of(token)
    port = gateway.running.addresses.https
    assert port is not None
    assert claims.pop("iss") == "https://localhost:0/oauth2/token"
    assert claims.pop("exp") - claims.pop("iat") == 3600
    assert len(claims.pop("jti")) == 36
    assert claims == {
        "sub": "carol",
        "azp": client.consumer_key,
        "keytype": "PRODUCTION",
        "scope": "read",
        "application": {
            "id": 1,
            "uuid": client.uuid,
            "name": "App",
            "tier": "50PerMin",
            "owner": "carol",
        },
        "subscribedAPIs": [
            {
                "name": "Rooms",
                "context": "/rooms/1.0.0",
                "version": "1.0.0",
                "publisher": "carbon.super",
                "subscriptionTier": "10PerMin",
                "subscriberTenantDomain": "carbon.super",
            }
        ],
        "tierInfo": {"10PerMin": {"tierQuotaType": "eventCount", "stopOnQuotaReach": True}},
    }
    assert await gateway.status("/rooms/1.0.0/a", token=token) == 101
    assert await gateway.status("/other/1.0.0/x", token=token) == 403
    # A test key opens both, as before.
    assert await gateway.status("/other/1.0.0/x", token=gateway.token("x")) == 101


async def test_requests_for_tokens(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery)
    client, none = register(base, ROOMS), register(base, name="Empty")
    assert (await ask_token(gateway, client)).json()["scope"] == "read write"
    assert (await ask_token(gateway, client, form=True, tls=True)).json()["scope"] == "read write"
    assert (await ask_token(gateway, client, {"scope": "default write"})).json()["scope"] == (
        "default write"
    )
    assert (await ask_token(gateway, none)).json()["scope"] == "default"
    for wrong, fields, expected in [
        (none, {"scope": "read"}, (400, "invalid_scope")),
        (client, {"scope": "x"}, (400, "invalid_scope")),
        (client, {"scope": "y" * 5000}, (400, "invalid_scope")),
        (client, {"grant_type": "password"}, (400, "unsupported_grant_type")),
        (client, {"grant_type": ""}, (400, "invalid_request")),
    ]:
        answer = await ask_token(gateway, wrong, fields)
        assert (answer.status, answer.json()["error"]) == expected
        assert client.secret not in answer.body.decode()
    basic = base64.b64encode(f"{client.consumer_key}:{client.secret}".encode())
    authorization = b"Authorization: Basic %b\r\n" % basic
    grant = b"grant_type=client_credentials"
    both = grant + b"&client_secret=" + client.secret.encode()
    for headers, body, status in [
        (b"", grant, 400),
        (FORM, grant, 401),
        (FORM + authorization, both, 400),
        (FORM + authorization * 2, grant, 400),
        (FORM + authorization, grant + b"&" + grant, 400),
        (FORM + b"Authorization: Bearer x\r\n", grant, 400),
        (FORM + b"Authorization: Basic ***\r\n", grant, 400),
        (FORM + b"Authorization: Basic YQ==\r\n", grant, 400),
        (FORM + authorization, b"\xff", 400),
        (FORM + authorization + b"Sec-Fetch-Site: cross-site\r\n", grant, 403),
        (FORM + authorization + b"Origin: https://evil.example\r\n", grant, 403),
    ]:
        answer = await gateway.get("/oauth2/token", method="POST", headers=headers, body=body)
        assert answer.status == status, (headers, answer.body)
    for method in ("GET", "PUT", "OPTIONS"):
        answer = await gateway.get("/oauth2/token", method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_guesses_of_secrets_are_slowed(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery)
    client = register(base, ROOMS)
    wrong = client._replace(secret=secret("not the secret of this one"))
    unknown = Client("", "no key", secret("a secret of nobody at all"))
    found = [
        (await ask_token(gateway, one, form=form)).status
        for one, form in [(wrong, True), (unknown, True), (wrong, False), (unknown, False)]
    ]
    answer = await ask_token(gateway, wrong)
    assert [*found, answer.status] == [401] * 5
    assert answer.json()["error"] == "invalid_client"
    assert answer.headers["www-authenticate"].startswith("Basic")
    answer = await ask_token(gateway, client)  # the right one has to wait, too
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")


async def test_plain_http_needs_loopback_or_a_proxy_with_tls(
    base: Path, nursery: trio.Nursery
) -> None:
    gateway = await start(base, nursery, trusted_proxies=["127.0.0.0/8"])
    client = register(base, ROOMS)
    body = urlencode(
        {
            "grant_type": "client_credentials",
            "client_id": client.consumer_key,
            "client_secret": client.secret,
        }
    ).encode()
    for said, status in [(b"", 200), (b"https", 200), (b"http", 403), (b"https, http", 403)]:
        headers = FORM + (b"X-Forwarded-Proto: %b\r\n" % said if said else b"")
        answer = await gateway.get("/oauth2/token", method="POST", headers=headers, body=body)
        assert answer.status == status


async def test_what_is_taken_away_ends_within_a_second(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery)
    client = register(base, ROOMS)
    now = int(time.time())

    def made(make: Callable[[Registry], Registry]) -> Callable[[], object]:
        return lambda: change(base, make)

    def state(state: Any) -> Callable[[], object]:
        return made(
            lambda current: changes.subscribe(
                current, client.uuid, ROOMS, tier=None, state=state, now=now
            )
        )

    token = await token_of(gateway, client)
    await closes(gateway, token, state("BLOCKED"), "subscription blocked")
    assert await gateway.status("/rooms/1.0.0/a", token=token) == 401
    state("UNBLOCKED")()
    token = await token_of(gateway, client)  # the endpoint reads the file anew
    await closes(gateway, token, state("PROD_ONLY_BLOCKED"), "subscription blocked")
    state("UNBLOCKED")()
    token = await token_of(gateway, client)
    jti = claims_of(token)["jti"]

    def revoke(subject: str) -> Callable[[], object]:
        return made(
            lambda current: changes.revoke_token(
                current, jti, subject=subject, by="", now=now, most=9
            )
        )

    revoke("somebody else")()
    assert await gateway.status("/rooms/1.0.0/a", token=await token_of(gateway, client)) == 101
    assert await gateway.status("/rooms/1.0.0/a", token=token) == 101
    await closes(gateway, token, revoke("carol"), "token revoked")
    assert await gateway.status("/rooms/1.0.0/a", token=token) == 401

    # A subscription that is made again at once is not for the tokens of before.
    token = await token_of(gateway, client)
    unsubscribe = made(
        lambda current: changes.unsubscribe(current, client.uuid, ROOMS.id, now=int(time.time()))
    )
    await closes(gateway, token, unsubscribe, "subscription removed")
    state("UNBLOCKED")()
    new = await token_of(gateway, client)
    assert await gateway.status("/rooms/1.0.0/a", token=token) == 403
    assert await gateway.status("/rooms/1.0.0/a", token=new) == 101

    # A new secret ends the tokens made with the old one; those of the new one count at once.
    other = client._replace(secret=secret("another secret of 32 octets, say"))
    renew = made(
        lambda current: changes.set_key(
            current,
            client.uuid,
            "PRODUCTION",
            consumer_key="",
            secret=digest(other.secret),
            validity=None,
            now=int(time.time()),
        )
    )
    await closes(gateway, new, renew, "token revoked")
    assert (await ask_token(gateway, client)).status == 401
    token = await token_of(gateway, other)
    assert await gateway.status("/rooms/1.0.0/a", token=token) == 101

    def all_tokens() -> object:
        made = int(time.time())
        return change(
            base,
            lambda current: changes.revoke_name(current, "subject", "carol", by="", now=made),
        )

    await closes(gateway, token, all_tokens, "token revoked")
    token = await token_of(gateway, other)
    no_key = made(lambda current: changes.remove_key(current, client.uuid, "PRODUCTION"))
    await closes(gateway, token, no_key, "application key removed")
    assert (await ask_token(gateway, other)).status == 401
    third = register(base, ROOMS, name="Third")
    gone = made(lambda current: changes.remove(current, third.uuid))
    token = await token_of(gateway, third)
    await closes(gateway, token, gone, "application key removed")


async def test_the_limit_of_the_subscription_counts(base: Path, nursery: trio.Nursery) -> None:
    tiers = {"Two": {"events": 2, "per": "1d", "on_exceed": "close"}}
    gateway = await start(base, nursery, tiers=tiers)
    client = register(base, ROOMS, subscription_tier="Two")
    async with gateway.connect("/rooms/1.0.0/b", await token_of(gateway, client)) as socket:
        for text in ("one", "two"):
            await socket.send(text)
            assert await socket.recv() == text
        await socket.send("three")
        with trio.fail_after(5), pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.reason.startswith("subscription limit")


async def test_a_damaged_file_changes_nothing(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery)
    client = register(base, ROOMS)
    file = base / "portal" / "registry.json"
    assert file.stat().st_mode & 0o777 == 0o600
    token = await token_of(gateway, client)
    good = file.read_bytes()
    with logged("trio_gw.applications") as log:
        file.write_bytes(good[:-9])
        line = await log.wait("portal/registry.json: is damaged")
        assert "repair it" in line
        assert await gateway.status("/rooms/1.0.0/a", token=token) == 101
        assert (await ask_token(gateway, client)).status == 200
        file.write_bytes(good)
        await log.wait("usable again")


async def test_without_a_portal_there_is_no_endpoint(base: Path, nursery: trio.Nursery) -> None:
    gateway = await start(base, nursery, portal={"enabled": False})
    client = register(base, ROOMS)
    assert (await ask_token(gateway, client)).status == 404
