"""The JSON endpoints of an operator: those of the admin API, for a session (spec: portal §3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

import trio_gw
from trio_gw.admin import operation_views, views
from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.admin.operation_views import DenyRequest, MatchingClose
from trio_gw.portal.operate import attention, settings_view
from trio_gw.portal.operate.events import feed_of
from trio_gw.portal.routes import PortalRoute, Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from trio_gw.admin.context import Context
    from trio_gw.portal.request import PortalRequest

    View = Callable[[Context, Request, str], Awaitable[Response]]

# What consumers may see of the totals: nothing about other people's trouble.
_FOR_CONSUMERS = ("open", "messages_in", "messages_out")


def _view(view: View) -> Callable[[PortalRequest], Awaitable[Response]]:
    """Serve a view of the admin API."""

    async def handle(request: PortalRequest) -> Response:
        request.http.scope["path_params"] = dict(request.params)
        return await view(request.services.context, request.http, request.caller.user)

    return handle


async def stats(request: PortalRequest) -> Response:
    """`GET /api/stats`: the numbers of the last second, and of each API."""
    state = request.services.context.aggregate.shared_state
    found = await feed_of(request.services).stats() or {"at": None, "totals": {}, "apis": {}}
    body: dict[str, Any] = {"version": trio_gw.__version__, "now": time.time(), **found}
    body["uptime"] = max(0.0, time.time() - state.started)
    if request.caller.role < Role.PUBLISHER:
        totals = found["totals"]
        body["totals"] = {name: totals[name] for name in _FOR_CONSUMERS if name in totals}
        body["apis"] = {}
    else:
        body["workers"] = worker_rows(request)
    return json_response(body)


def worker_rows(request: PortalRequest) -> list[dict[str, Any]]:
    """Describe the workers."""
    state = request.services.context.aggregate.shared_state
    rows = zip(state.states(), state.clients(), state.silent_seconds(), strict=True)
    return [
        {
            "worker": number,
            "state": one.name.lower(),
            "open": held,
            "accepted": ever,
            "silent": quiet,
        }
        for number, (one, (held, ever), (quiet, _)) in enumerate(rows, 1)
    ]


async def history(request: PortalRequest) -> Response:
    """`GET /api/history?span=&api=`: series for charts; of one API for publishers only."""
    if request.query.get("api") and request.caller.role < Role.PUBLISHER:
        raise FaultError(403, "the traffic of an API needs the role publisher")
    response = await operation_views.history(
        request.services.context, request.http, request.caller.user
    )
    return response if request.caller.role >= Role.PUBLISHER else _reduced(response)


def _reduced(response: Response) -> Response:
    body = msgspec.json.decode(response.body)
    if body.get("series"):
        columns = body["series"]["columns"]
        body["series"]["columns"] = {name: columns[name] for name in _FOR_CONSUMERS}
    return json_response(body)


async def attend(request: PortalRequest) -> Response:
    """`GET /api/attention`: what needs an operator now."""
    return json_response({"items": await attention.items(request)})


async def close(request: PortalRequest) -> Response:
    """`POST /api/connections/close`: close all that match, if there are as many as expected."""
    asked = await request.body(MatchingClose, operation_views.MAX_BODY)
    context = request.services.context
    return await operation_views.close_matching(context, asked, request.caller.user)


async def deny(request: PortalRequest) -> Response:
    """`POST /api/denials`: add a line to the file of deny conditions."""
    asked = await request.body(DenyRequest, operation_views.MAX_BODY)
    return await operation_views.deny(request.services.context, asked, request.caller.user)


async def settings(request: PortalRequest) -> Response:
    """`GET /api/settings`: the settings in force, without secrets."""
    rows = settings_view.rows(request.services.settings)
    return json_response({"settings": [row._asdict() for row in rows]})


_ADMIN = Role.ADMIN
ROUTES = (
    PortalRoute("GET", "/api/stats", Role.CONSUMER, stats),
    PortalRoute("GET", "/api/history", Role.CONSUMER, history),
    PortalRoute("GET", "/api/attention", _ADMIN, attend),
    PortalRoute("GET", "/api/connections", _ADMIN, _view(views.connections)),
    PortalRoute("DELETE", "/api/connections/{id}", _ADMIN, _view(views.close)),
    PortalRoute("POST", "/api/connections/close", _ADMIN, close),
    PortalRoute("GET", "/api/limits", _ADMIN, _view(operation_views.limits)),
    PortalRoute("GET", "/api/backends", _ADMIN, _view(operation_views.backends)),
    PortalRoute("GET", "/api/endings", _ADMIN, _view(operation_views.endings)),
    PortalRoute("GET", "/api/problems", Role.PUBLISHER, _view(views.problems)),
    PortalRoute("GET", "/api/denials", _ADMIN, _view(views.denials)),
    PortalRoute("POST", "/api/denials", _ADMIN, deny),
    PortalRoute("DELETE", "/api/denials", _ADMIN, _view(operation_views.allow_request)),
    PortalRoute("GET", "/api/log", _ADMIN, _view(operation_views.log_lines)),
    PortalRoute("GET", "/api/settings", _ADMIN, settings),
)
