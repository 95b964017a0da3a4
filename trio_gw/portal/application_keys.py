"""The keys of an application: made, renewed and revoked; and tokens that are revoked."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal

import msgspec

from trio_gw.admin.json_responses import FaultError, empty_response, json_response
from trio_gw.config import registry
from trio_gw.config import registry_changes as changes
from trio_gw.config.addresses import is_loopback
from trio_gw.config.registry import KEY_TYPES, digest
from trio_gw.config.settings import TOKEN_PATH
from trio_gw.guard.roles import Role
from trio_gw.portal.addresses import client_urls, host_name
from trio_gw.portal.application_store import change, find_own, registry_of
from trio_gw.portal.routes import PortalRoute

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.config.registry import KeyType, Registry
    from trio_gw.portal.request import PortalRequest

KEY_BYTES, SECRET_BYTES = 20, 32


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a key is to be: the life of its tokens in seconds.

    With `keep_tokens` tokens that were made with the secret before stay valid.
    """

    validity: int | None = None
    keep_tokens: bool = False


class RevocationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is revoked: one token by its id, or all tokens so far of a consumer key or subject."""

    jti: str = ""
    consumer_key: str = ""
    subject: str = ""


async def make_key(request: PortalRequest) -> Response:
    """`POST …/keys/{type}`: make a key, or give it a new secret. The secret is shown only here."""
    asked = await request.body(KeyRequest)
    application, key_type = await find_own(request), _key_type(request)
    consumer_key = _new_key()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    before = application.keys.get(key_type)

    def make(current: Registry, now: int) -> Registry:
        return changes.set_key(
            current,
            application.uuid,
            key_type,
            consumer_key=consumer_key,
            secret=digest(secret),
            validity=asked.validity,
            now=now,
            keep_tokens=asked.keep_tokens,
            by=request.caller.user,
        )

    action = "application-key-add" if before is None else "application-secret-renew"
    after = await change(
        request, make, action, application.name, uuid=application.uuid, key_type=key_type
    )
    key = after.applications[application.uuid].keys[key_type]
    answer = {
        "consumer_key": key.consumer_key,
        "consumer_secret": secret,
        "key_type": key_type,
        "validity": key.validity,
        "token_url": token_url(request),
    }
    return json_response(answer, 201 if before is None else 200)


async def remove_key(request: PortalRequest) -> Response:
    """`DELETE …/keys/{type}`: revoke a key; its tokens and connections end."""
    application, key_type = await find_own(request), _key_type(request)
    await change(
        request,
        lambda current, _: changes.remove_key(current, application.uuid, key_type),
        "application-key-revoke",
        application.name,
        uuid=application.uuid,
        key_type=key_type,
    )
    return empty_response(204)


async def revoke(request: PortalRequest) -> Response:
    """`POST /portal/api/revocations`: revoke a token, or those of a key or a subject so far."""
    asked = await request.body(RevocationRequest)
    given = [name for name in ("jti", "consumer_key", "subject") if getattr(asked, name)]
    if len(given) != 1:
        raise FaultError(422, "give exactly one of `jti`, `consumer_key` and `subject`")
    await _revoke(request, given[0], getattr(asked, given[0]))
    return empty_response(204)


async def _revoke(request: PortalRequest, kind: str, name: str) -> None:
    caller = request.caller
    is_admin = caller.role >= Role.ADMIN
    most = registry.MAX_REVOKED if is_admin else registry.MAX_REVOKED_OF_USER
    if not is_admin and (
        (kind == "subject" and name != caller.user)
        or (kind == "consumer_key" and not _owns(request, name))
    ):
        raise FaultError(404, "there is no such key or subject of yours")

    def make(current: Registry, now: int) -> Registry:
        if kind == "jti":
            subject = "" if is_admin else caller.user
            return changes.revoke_token(
                current, name, subject=subject, by=caller.user, now=now, most=most
            )
        named: Literal["subject", "consumer_key"] = (
            "subject" if kind == "subject" else "consumer_key"
        )
        return changes.revoke_name(current, named, name, by=caller.user, now=now, most=most)

    await change(request, make, "revoke", name, kind=kind)


def _new_key() -> str:
    """Make a consumer key; none begins like an option of a command."""
    while (made := secrets.token_urlsafe(KEY_BYTES)).startswith("-"):
        pass
    return made


def _owns(request: PortalRequest, consumer_key: str) -> bool:
    own = registry_of(request).owned(request.caller.user)
    return any(key.consumer_key == consumer_key for one in own for key in one.keys.values())


def _key_type(request: PortalRequest) -> KeyType:
    for one in KEY_TYPES:
        if one == request.params["type"]:
            return one
    raise FaultError(404, "the types of keys are PRODUCTION and SANDBOX")


def token_url(request: PortalRequest) -> str:
    """Return the URL of the token endpoint.

    On this machine it is that of the listener without TLS, if there is one: its certificate may be
    self-signed, and nobody can listen.
    """
    settings, addresses = request.services.settings.portal, request.services.addresses
    host = host_name(request.http.headers.get("host", "localhost"))
    found = client_urls(settings, addresses, host)
    if not found:
        return TOKEN_PATH
    local = is_loopback(host.strip("[]")) and not settings.public_https
    return f"http{found[0 if local else -1].removeprefix('ws')}{TOKEN_PATH}"


ROUTES = (
    PortalRoute(
        "POST", "/api/applications/{uuid}/keys/{type}", Role.CONSUMER, make_key, writes=True
    ),
    PortalRoute(
        "DELETE", "/api/applications/{uuid}/keys/{type}", Role.CONSUMER, remove_key, writes=True
    ),
    PortalRoute("POST", "/api/revocations", Role.CONSUMER, revoke, writes=True),
)
