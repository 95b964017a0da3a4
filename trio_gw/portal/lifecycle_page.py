"""The page with the state of an API, and a form for each step (spec: portal §2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.admin.json_responses import FaultError
from trio_gw.config import lifecycle
from trio_gw.portal.forms import read_form, see_other
from trio_gw.portal.known_apis import find_known
from trio_gw.portal.lifecycle import StateRequest, facts, set_state
from trio_gw.portal.managed_header import managed_header, open_now
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from trio_gw.feed.revisions import KnownApi
    from trio_gw.portal.request import PortalRequest

# The name of each step, by the state it leads to.
_STEPS = {
    "CREATED": "Back to created",
    "PROTOTYPED": "Open as a prototype",
    "PUBLISHED": "Publish",
    "BLOCKED": "Block",
    "DEPRECATED": "Deprecate",
    "RETIRED": "Retire",
}


async def show(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/lifecycle`."""
    return await _page(request, await find_known(request))


async def step(request: PortalRequest) -> Response:
    """`POST /portal/apis/{id}/lifecycle`: take a step; back to the page, which tells what holds."""
    api = await find_known(request)
    fields = await read_form(request)
    try:
        given = {name: fields.get(name, "") for name in ("state", "successor", "sunset", "confirm")}
        await set_state(request, api, msgspec.convert(given, StateRequest))
    except msgspec.ValidationError:
        raise FaultError(422, "there is no such state") from None
    except FaultError as fault:
        return await _page(request, api, fault, fields)
    return see_other(api_address(api.id, request.query.get("host", ""), "lifecycle"), done="1")


async def _page(
    request: PortalRequest,
    api: KnownApi,
    fault: FaultError | None = None,
    fields: Mapping[str, str] | None = None,
) -> Response:
    header = await managed_header(request, api, "lifecycle")
    evict = request.services.settings.evict
    values: dict[str, Any] = {
        "now": facts(request, api),
        "states": lifecycle.STATES,
        "meanings": lifecycle.MEANINGS,
        "labels": _STEPS,
        "effects": {
            "RETIRED": "Open connections are closed with 1001."
            if evict
            else "Open connections stay until they end."
        },
        "open": await open_now(request, api),
        "fault": fault,
        "fields": {"state": "", "successor": "", "sunset": "", **(fields or {})},
        "done": request.query.get("done", "") == "1" and fault is None,
    }
    title = f"Lifecycle of {api.title}"
    status = 200 if fault is None else fault.status
    return await page(request, "lifecycle.html", title=title, status=status, api=header, **values)


ROUTES = (
    PortalRoute("GET", "/apis/{id}/lifecycle", Role.PUBLISHER, show, Kind.PAGE),
    PortalRoute("POST", "/apis/{id}/lifecycle", Role.PUBLISHER, step, Kind.FORM, writes=True),
)
