"""Test keys from a session: `POST /portal/api/test-keys`, and the page of an API with the panel.

A key is shown once and stored nowhere. spec: portal §2.6.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.portal.audit import audit
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_header, find_api, is_visible, served_apis

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.config.api import ApiProject
    from trio_gw.portal.request import PortalRequest
    from trio_gw.portal.services import PortalServices

LEAST, USUAL, LONGEST = 60, 900, 3600  # seconds
MAX_SCOPES = 100


class TestKeyRequest(msgspec.Struct):
    """What a key is for. Without `host` the API may be on any."""

    api: str
    host: str = ""
    scopes: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_SCOPES)] = ()
    key_type: Literal["PRODUCTION", "SANDBOX"] = "PRODUCTION"
    seconds: Annotated[int, msgspec.Meta(ge=LEAST, le=LONGEST)] = USUAL


def scopes_of(project: ApiProject) -> tuple[str, ...]:
    """List the scopes that topics of an API ask for."""
    return tuple(sorted({scope for topic in project.topics for scope in topic.scopes or ()}))


def why_none(services: PortalServices) -> str:
    """Return why test keys would open no API here; empty if they do."""
    settings = services.settings
    if services.testkeys is None:
        return "test keys are turned off here (testkey.enabled)"
    trusting = [one for one in settings.issuers if one.issuer == settings.testkey.issuer]
    if not trusting:
        return (
            "no entry of [[issuers]] trusts test keys, so they open no API; get a token from an"
            " issuer that is trusted"
        )
    if all(one.validate_subscription for one in trusting):
        return "the issuer of test keys asks for subscriptions, which test keys do not have"
    return ""


async def mint(request: PortalRequest) -> Response:
    """`POST /portal/api/test-keys`: make a key for an API. 409 if nobody would trust it."""
    asked = await request.body(TestKeyRequest, most=1 << 16)
    services = request.services
    found = [
        one
        for one in (await served_apis(services)).by_id.get(asked.api, ())
        if is_visible(one.state, request.caller.role) and asked.host.lower() in ("", one.host)
    ]
    if not found:
        raise FaultError(404, "there is no such API here, or it is not served any more")
    if why := why_none(services):
        raise FaultError(409, why)
    unknown = set(asked.scopes) - {scope for one in found for scope in scopes_of(one.project)}
    if unknown:
        names = ", ".join(sorted(unknown))[:200]
        raise FaultError(422, f"no topic of this API asks for the scope {names}")
    assert services.testkeys is not None
    token = services.testkeys.mint(
        request.caller.user,
        " ".join(dict.fromkeys(asked.scopes)) or None,
        time.time(),
        key_type=asked.key_type,
        validity=asked.seconds,
    )
    claims = claims_of(token)
    title = found[0].project.title
    await audit(request, "test key", title, id=str(claims["jti"]), key_type=asked.key_type)
    body = {"token": token, "id": claims["jti"], "expires": claims["exp"], "claims": claims}
    return json_response(body, 201)


def claims_of(token: str) -> dict[str, Any]:
    """Decode the claims of a token that was made here."""
    part = token.split(".")[1]
    decoded: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * 3))
    return decoded


async def keys_page(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/keys`: get a test key, and explain a refusal."""
    api = await find_api(request)
    header = await api_header(request, api, "keys")
    topics = [api.project.base_path + topic.name for topic in api.project.topics[:500]]
    return await page(
        request,
        "keys.html",
        title=f"Keys · {api.project.title}",
        api=header,
        scopes=scopes_of(api.project),
        sandbox=api.project.sandbox is not None,
        why_none=why_none(request.services),
        topics=topics,
    )


ROUTES = (
    PortalRoute("GET", "/apis/{id}/keys", Role.CONSUMER, keys_page, Kind.PAGE),
    PortalRoute("POST", "/api/test-keys", Role.CONSUMER, mint),
)
