"""The page and the endpoint that explain a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec

from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.portal.explain import MAX_TOKEN, Explained, ExplainRequest, explain
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest

MAX_BODY = 1 << 17  # bytes


async def api_explain(request: PortalRequest) -> Response:
    """`POST /portal/api/explain`: the steps of a handshake."""
    asked = await request.body(ExplainRequest, most=MAX_BODY)
    found = await explain(request.services.services, asked, request.address)
    return json_response(msgspec.to_builtins(found))


async def show(request: PortalRequest) -> Response:
    """`GET /portal/explain`: the form, filled in with `host` and `path` of the query."""
    host, path = request.query.get("host", "localhost"), request.query.get("path", "")
    return await _page(request, host, path, None)


async def explain_form(request: PortalRequest) -> Response:
    """`POST /portal/explain`: the same without scripts."""
    body = (await request.read(MAX_BODY)).decode(errors="replace")
    fields = dict(parse_qsl(body, keep_blank_values=True))
    host, path = fields.get("host", "")[:300], fields.get("path", "")[:8192]
    asked = ExplainRequest(path, host, fields.get("token", "")[:MAX_TOKEN])
    try:
        found = await explain(request.services.services, asked, request.address)
    except FaultError as fault:
        return await _page(request, host, path, None, fault=fault.message)
    return await _page(request, host, path, found)


async def _page(
    request: PortalRequest, host: str, path: str, found: Explained | None, *, fault: str = ""
) -> Response:
    values = {"host": host, "asked": path, "found": found, "fault": fault}
    return await page(
        request,
        "explain_page.html",
        title="Why was I refused?",
        status=422 if fault else 200,
        **values,
    )


ROUTES = (
    PortalRoute("GET", "/explain", Role.CONSUMER, show, Kind.PAGE),
    PortalRoute("POST", "/explain", Role.CONSUMER, explain_form, Kind.FORM),
    PortalRoute("POST", "/api/explain", Role.CONSUMER, api_explain),
)
