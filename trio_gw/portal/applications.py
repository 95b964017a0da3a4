"""Applications: list, add, show, change and remove them; tiers and environments to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.admin.json_responses import FaultError, empty_response, json_response
from trio_gw.config import registry_changes as changes
from trio_gw.guard.roles import Role
from trio_gw.portal import application_keys, application_subscriptions
from trio_gw.portal.application_facts import application_facts, environment_facts, tier_facts
from trio_gw.portal.application_store import add, change, check_tier, find_own, visible
from trio_gw.portal.application_subscriptions import DEFAULT_TIER
from trio_gw.portal.routes import PortalRoute

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.config.registry import RegisteredApplication
    from trio_gw.portal.request import PortalRequest

SIZE, MOST_SIZE = 50, 200  # applications of a page


class ApplicationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An application to add."""

    name: str
    description: str = ""
    tier: str = DEFAULT_TIER


class ApplicationChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of an application; None leaves it."""

    name: str | None = None
    description: str | None = None
    tier: str | None = None


async def list_all(request: PortalRequest) -> Response:
    """`GET /portal/api/applications`: the own ones; administrators see all."""
    found = matching(request)
    page, size = number(request, "page", 1), min(number(request, "size", SIZE), MOST_SIZE)
    rows = found[(page - 1) * size : page * size]
    items = [application_facts(request, one) for one in rows]
    return json_response({"total": len(found), "page": page, "items": items})


async def create(request: PortalRequest) -> Response:
    """`POST /portal/api/applications`: register one of the caller."""
    asked = await request.body(ApplicationRequest)
    made = await add(request, asked.name, asked.description, asked.tier)
    location = f"/portal/api/applications/{made.uuid}"
    return json_response(application_facts(request, made), 201, {"Location": location})


async def show(request: PortalRequest) -> Response:
    """`GET /portal/api/applications/{uuid}`."""
    return json_response(application_facts(request, await find_own(request)))


async def edit(request: PortalRequest) -> Response:
    """`PATCH /portal/api/applications/{uuid}`: name, description, tier."""
    asked = await request.body(ApplicationChange)
    made = await update(request, await find_own(request), asked)
    return json_response(application_facts(request, made))


async def remove(request: PortalRequest) -> Response:
    """`DELETE /portal/api/applications/{uuid}`: its keys and connections end, too."""
    await drop(request, await find_own(request))
    return empty_response(204)


async def tiers(request: PortalRequest) -> Response:
    """`GET /portal/api/tiers`: names and numbers."""
    return json_response({"items": tier_facts(request)})


async def environments(request: PortalRequest) -> Response:
    """`GET /portal/api/environments`: names, hosts and URLs."""
    return json_response({"items": environment_facts(request)})


async def update(
    request: PortalRequest, application: RegisteredApplication, asked: ApplicationChange
) -> RegisteredApplication:
    """Change an application."""
    check_tier(request, asked.tier)
    given = msgspec.structs.asdict(asked)
    after = await change(
        request,
        lambda current, _: changes.edit(current, application.uuid, **given),
        "application-edit",
        application.name,
        uuid=application.uuid,
        name=asked.name,
        tier=asked.tier,
    )
    return after.applications[application.uuid]


async def drop(request: PortalRequest, application: RegisteredApplication) -> None:
    """Remove an application."""
    await change(
        request,
        lambda current, _: changes.remove(current, application.uuid),
        "application-remove",
        application.name,
        uuid=application.uuid,
        owner=application.owner,
    )


def matching(request: PortalRequest) -> list[RegisteredApplication]:
    """List the visible applications that the query `q` matches, in name, owner or UUID."""
    wanted = request.query.get("q", "").strip().casefold()
    return [
        one
        for one in visible(request)
        if not wanted or any(wanted in text.casefold() for text in (one.name, one.owner, one.uuid))
    ]


def number(request: PortalRequest, name: str, default: int) -> int:
    """Read a number of the query. Raises `FaultError` 422."""
    text = request.query.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 6 and int(text) >= 1):
        raise FaultError(422, f"{name} is not a number from 1")
    return int(text)


ROUTES = (
    PortalRoute("GET", "/api/applications", Role.CONSUMER, list_all),
    PortalRoute("POST", "/api/applications", Role.CONSUMER, create, writes=True),
    PortalRoute("GET", "/api/applications/{uuid}", Role.CONSUMER, show),
    PortalRoute("PATCH", "/api/applications/{uuid}", Role.CONSUMER, edit, writes=True),
    PortalRoute("DELETE", "/api/applications/{uuid}", Role.CONSUMER, remove, writes=True),
    PortalRoute("GET", "/api/tiers", Role.CONSUMER, tiers),
    PortalRoute("GET", "/api/environments", Role.CONSUMER, environments),
    *application_keys.ROUTES,
    *application_subscriptions.ROUTES,
)
