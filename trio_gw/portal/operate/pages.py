"""The pages of an operator below `/portal/operate`. Scripts keep their numbers up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trio_gw.admin.operation_messages import GetLog
from trio_gw.admin.operation_views import LEVELS, ending_row, workers_of
from trio_gw.admin.rpc_messages import ListConnections
from trio_gw.admin.views import read_match
from trio_gw.config.conditions import KINDS
from trio_gw.guard.blocklist import FILE
from trio_gw.portal.operate import attention, settings_view
from trio_gw.portal.operate.endpoints import worker_rows
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest

FIRST_ROWS = 100  # of a table, before scripts take over
MAX_DENIALS = 1000

# Path below /operate, label, least role.
TABS = (
    ("", "Overview", Role.ADMIN),
    ("/connections", "Connections", Role.ADMIN),
    ("/endings", "Endings", Role.ADMIN),
    ("/limits", "Limits", Role.ADMIN),
    ("/backends", "Backends", Role.ADMIN),
    ("/problems", "Problems", Role.PUBLISHER),
    ("/denials", "Deny list", Role.ADMIN),
    ("/log", "Log", Role.ADMIN),
    ("/settings", "Settings", Role.ADMIN),
)


async def _page(request: PortalRequest, name: str, title: str, **values: object) -> Response:
    here = request.http.url.path
    tabs = [
        (f"/portal/operate{path}", label, here == f"/portal/operate{path}")
        for path, label, role in TABS
        if request.caller.role >= role
    ]
    shown: dict[str, Any] = {"missing": [], **values}
    return await page(request, f"operate_{name}.html", title=title, tabs=tabs, **shown)


async def overview(request: PortalRequest) -> Response:
    """`GET /operate`: what needs attention, charts, the busiest APIs, the workers."""
    services = request.services
    found = await workers_of(services.context).history("5m", count=1)
    return await _page(
        request,
        "overview",
        "Operate",
        items=await attention.items(request),
        workers=worker_rows(request),
        started=services.context.aggregate.shared_state.started,
        measured=services.context.metrics is not None,
        since=found.since,
        missing=found.missing,
    )


async def connections(request: PortalRequest) -> Response:
    """`GET /operate/connections?match=`: open connections."""
    match = read_match(request.query)
    asked = ListConnections(FIRST_ROWS, "age", match)
    found, missing = await request.services.context.aggregate.connections(asked)
    values = {"found": found, "match": match, "missing": missing}
    return await _page(request, "connections", "Connections", **values)


async def endings(request: PortalRequest) -> Response:
    """`GET /operate/endings`: the last connections that ended, and the last that were refused."""
    found = await workers_of(request.services.context).endings()
    rows = [ending_row(*one) for one in found.rows[::-1][:FIRST_ROWS]]
    after = "-".join(f"{worker}.{serial}" for worker, serial in found.serials.items())
    values = {"rows": rows, "after": after, "missing": found.missing}
    return await _page(request, "endings", "Endings", **values)


async def limits(request: PortalRequest) -> Response:
    """`GET /operate/limits`: which limits are full, for what, and until when."""
    found = await workers_of(request.services.context).limits()
    values = {"found": found, "now": time.time(), "missing": found.missing}
    return await _page(request, "limits", "Limits", **values)


async def backends(request: PortalRequest) -> Response:
    """`GET /operate/backends`: which backends are down, since when, and whom that concerns."""
    found, missing = await workers_of(request.services.context).backends()
    values = {"found": found, "missing": missing}
    return await _page(request, "backends", "Backends", **values)


async def problems(request: PortalRequest) -> Response:
    """`GET /operate/problems`: what is wrong in projects, settings and background tasks."""
    found, missing = await request.services.context.aggregate.problems()
    found.sort(key=lambda one: (one.severity != "error", one.file, one.line))
    return await _page(request, "problems", "Problems", found=found, missing=missing)


async def denials(request: PortalRequest) -> Response:
    """`GET /operate/denials`: who is refused whatever credentials they have."""
    blocklist, settings = request.services.context.blocklist, request.services.settings
    listed = list(blocklist.listed())
    values = {
        "found": listed[:MAX_DENIALS],
        "total": len(listed),
        "kinds": KINDS,
        "file": settings.denials,
        "own": FILE,
    }
    return await _page(request, "denials", "Deny list", **values)


async def log(request: PortalRequest) -> Response:
    """`GET /operate/log`: the last lines of the log."""
    lines, missing = await workers_of(request.services.context).log(GetLog())
    values = {"lines": lines[-FIRST_ROWS:], "levels": list(LEVELS), "missing": missing}
    return await _page(request, "log", "Log", **values)


async def settings(request: PortalRequest) -> Response:
    """`GET /operate/settings`: the settings in force, without secrets."""
    rows = settings_view.rows(request.services.settings)
    return await _page(request, "settings", "Settings", rows=rows)


_ADMIN = Role.ADMIN
ROUTES = (
    PortalRoute("GET", "/operate", _ADMIN, overview, Kind.PAGE),
    PortalRoute("GET", "/operate/connections", _ADMIN, connections, Kind.PAGE),
    PortalRoute("GET", "/operate/endings", _ADMIN, endings, Kind.PAGE),
    PortalRoute("GET", "/operate/limits", _ADMIN, limits, Kind.PAGE),
    PortalRoute("GET", "/operate/backends", _ADMIN, backends, Kind.PAGE),
    PortalRoute("GET", "/operate/problems", Role.PUBLISHER, problems, Kind.PAGE),
    PortalRoute("GET", "/operate/denials", _ADMIN, denials, Kind.PAGE),
    PortalRoute("GET", "/operate/log", _ADMIN, log, Kind.PAGE),
    PortalRoute("GET", "/operate/settings", _ADMIN, settings, Kind.PAGE),
)
