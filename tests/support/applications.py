"""Registered applications for tests: made in the file, as another process would make them."""

from __future__ import annotations

import base64
import json
import secrets
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from support.secrets import secret
from trio_gw.config import registry_changes as changes
from trio_gw.config.registry import digest
from trio_gw.feed.registry_store import RegistryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.gateway import Answer, RunningGateway
    from trio_gw.config.registry import KeyType, Registry
    from trio_gw.config.registry_changes import SubscribedApi

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


class Client(NamedTuple):
    """An application with one key."""

    uuid: str
    consumer_key: str
    secret: str


def change(base: Path, make: Callable[[Registry], Registry]) -> Registry:
    """Change the registry as another worker would."""
    return RegistryStore(base / "portal", "portal").change(make).read.registry


def register(
    base: Path,
    *apis: SubscribedApi,
    owner: str = "carol",
    name: str = "App",
    tier: str = "Unlimited",
    key_type: KeyType = "PRODUCTION",
    subscription_tier: str = "Unlimited",
) -> Client:
    """Register an application with a key, subscribed to these APIs."""
    client = Client(str(uuid.uuid4()), secrets.token_urlsafe(20), secret(secrets.token_urlsafe(32)))
    now = int(time.time())

    def make(current: Registry) -> Registry:
        current = changes.add(current, client.uuid, owner, name, description="", tier=tier, now=now)
        current = changes.set_key(
            current,
            client.uuid,
            key_type,
            consumer_key=client.consumer_key,
            secret=digest(client.secret),
            validity=None,
            now=now,
        )
        for api in apis:
            current = changes.subscribe(
                current, client.uuid, api, tier=subscription_tier, state=None, now=now
            )
        return current

    change(base, make)
    return client


async def ask_token(
    gateway: RunningGateway,
    client: Client,
    fields: dict[str, str] | None = None,
    *,
    form: bool = False,
    tls: bool = False,
) -> Answer:
    """Ask for a token by Basic, or with the credentials in the form."""
    given = {"grant_type": "client_credentials", **(fields or {})}
    headers = FORM
    if form:
        given |= {"client_id": client.consumer_key, "client_secret": client.secret}
    else:
        pair = f"{client.consumer_key}:{client.secret}".encode()
        headers += b"Authorization: Basic %b\r\n" % base64.b64encode(pair)
    body = urlencode(given).encode()
    return await gateway.get("/oauth2/token", method="POST", headers=headers, body=body, tls=tls)


async def token_of(gateway: RunningGateway, client: Client, **fields: str) -> str:
    """Return a token."""
    answer = await ask_token(gateway, client, fields)
    assert answer.status == 200, answer.body
    return secret(str(answer.json()["access_token"]))


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a token, unverified."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
