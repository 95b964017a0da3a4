"""The admin API as a Starlette application: maps path and method to an operation.

Paths are matched as in the reference, after normalization: `//api/…` and a trailing slash match
too. An operation runs after the caller is authenticated and the content types are checked, in that
order (spec: adapter-rest §1, §3).
"""

from __future__ import annotations

import logging
import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from trio_gw.admin import (
    adapter,
    explain_view,
    managing,
    openapi_page,
    operation_views,
    topics,
    views,
)
from trio_gw.admin.context import authenticate, authenticated, check_role
from trio_gw.admin.form_token import PeekableBody
from trio_gw.admin.json_responses import JSON, FaultError, json_response
from trio_gw.admin.openapi import document
from trio_gw.admin.origin_check import OriginCheck
from trio_gw.guard.roles import Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from trio_gw.admin.context import Context
    from trio_gw.guard.authority import AuthorityNames

    Handle = Callable[[Context, Request, str], Awaitable[Response]]

log = logging.getLogger("trio_gw.admin")

HTML, FORM = "text/html", "multipart/form-data"
_DEFAULT_TYPE = "application/octet-stream"
_RANGE = re.compile(r"\s*(\*/\*|application/(?:\*|json))\s*(;[^,]*)?", re.IGNORECASE)
_HTML_RANGE = re.compile(r"\s*(\*/\*|text/(?:\*|html))\s*(;[^,]*)?", re.IGNORECASE)
_NEVER = re.compile(r";\s*q\s*=\s*0(\.0*)?\s*(;|$)", re.IGNORECASE)


class Operation(NamedTuple):
    """The operation for one method of a path. `consumes`: the type of its body, if it has one.

    `role` is the least role of its callers, if it is `secured`.
    """

    handle: Handle
    consumes: str = ""
    secured: bool = True
    produces: str = JSON
    role: Role = Role.ADMIN


class _Resource:
    """One path with its operations, an ASGI application."""

    def __init__(self, context: Context, operations: dict[str, Operation]) -> None:
        self._context = context
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        receive = PeekableBody(receive)
        request = Request(scope, receive)
        try:
            response = await self._respond(request, receive)
        except FaultError as error:
            response = error.response()
        except ClientDisconnect:
            return
        except Exception:
            # The traceback is for the operator only.
            log.exception("%s %s failed", request.method, request.url.path)
            response = FaultError(500, "internal error; see the log of the gateway").response()
        await response(scope, receive, send)

    async def _respond(self, request: Request, receive: PeekableBody) -> Response:
        operation = self._operations.get(request.method)
        if operation is None:
            allowed = ",".join(sorted(self._operations))
            message = f"method {request.method} is not allowed, but [{allowed}] are"
            raise FaultError(405, message, headers={"Allow": allowed})
        form = receive if operation.consumes == FORM else None
        user = ""
        if operation.secured:
            user = await authenticate(self._context, request, form)
            check_role(self._context, user, operation.role)
            authenticated(request)
        _check_types(request, operation)
        return await operation.handle(self._context, request, user)


def _check_types(request: Request, operation: Operation) -> None:
    """Refuse unsupported content types of body and response (spec: adapter-rest §3)."""
    headers, consumes, produces = request.headers, operation.consumes, operation.produces
    ranges = _RANGE if produces == JSON else _HTML_RANGE
    size = headers.get("content-length")
    has_body = "transfer-encoding" in headers or size not in (None, "0")
    has_body |= size is None and "content-type" in headers
    if consumes and has_body:
        kind = headers.get("content-type", _DEFAULT_TYPE).partition(";")[0].strip().lower()
        if kind != consumes:
            message = f'unsupported media type "{kind[:80]}", only [{consumes}] are allowed'
            raise FaultError(415, message)
    if (accept := headers.get("accept")) and not any(
        (found := ranges.fullmatch(part)) and not _NEVER.search(found[2] or "")
        for part in accept.split(",")
    ):
        raise FaultError(406, f"unsupported media type requested, only [{produces}] are available")


class _CleanPaths:
    """Normalizes paths for an ASGI application; `given_path` is the original."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            clean = posixpath.normpath("/" + path.lstrip("/"))
            scope = {**scope, "path": clean, "raw_path": clean.encode(), "given_path": path}
        await self._app(scope, receive, send)


async def _not_found(request: Request, _: Exception) -> Response:
    path = request.scope.get("given_path", "")
    return FaultError(404, f"path {path[:1000]} was not found").response()


def build_app(context: Context, version: str, names: AuthorityNames) -> ASGIApp:
    """Create the application; `names` are the host names of its listener."""
    description = document(version)

    async def describe(_context: Context, _request: Request, _user: str) -> Response:
        return json_response(description)

    shown = openapi_page.page(description)

    async def show(_context: Context, _request: Request, _user: str) -> Response:
        return Response(shown, headers=openapi_page.HEADERS, media_type=HTML)

    base = adapter.BASE
    paths = {
        f"{base}/oauth2/token": {
            "POST": Operation(adapter.token, consumes=JSON, secured=False),
        },
        f"{base}/apis": {
            "GET": Operation(adapter.apis, role=Role.PUBLISHER),
            "POST": Operation(adapter.deploy, consumes=FORM, role=Role.PUBLISHER),
            "DELETE": Operation(adapter.undeploy, role=Role.PUBLISHER),
        },
        f"{base}/apis/lifecycle": {
            "GET": Operation(managing.state, role=Role.PUBLISHER),
            "PUT": Operation(managing.set_lifecycle, role=Role.PUBLISHER),
        },
        f"{base}/apis/revisions": {"GET": Operation(managing.revisions, role=Role.PUBLISHER)},
        f"{base}/apis/rollback": {"POST": Operation(managing.rollback, role=Role.PUBLISHER)},
        f"{base}/docs": {"GET": Operation(show, secured=False, produces=HTML)},
        "/metrics": {"GET": Operation(views.metrics)},
        "/swagger.json": {"GET": Operation(describe, secured=False)},
        "/admin/apis": {"GET": Operation(views.apis)},
        "/admin/topics": {"GET": Operation(topics.topics, role=Role.PUBLISHER)},
        "/admin/routes": {"GET": Operation(views.routes)},
        "/admin/denials": {
            "GET": Operation(views.denials),
            "POST": Operation(operation_views.deny_request, consumes=JSON),
            "DELETE": Operation(operation_views.allow_request),
        },
        "/admin/history": {"GET": Operation(operation_views.history)},
        "/admin/endings": {"GET": Operation(operation_views.endings)},
        "/admin/limits": {"GET": Operation(operation_views.limits)},
        "/admin/backends": {"GET": Operation(operation_views.backends)},
        "/admin/log": {"GET": Operation(operation_views.log_lines)},
        "/admin/explain": {"POST": Operation(explain_view.explain, consumes=JSON)},
        "/admin/control-plane": {"GET": Operation(views.control_plane)},
        "/admin/problems": {"GET": Operation(views.problems)},
        "/admin/stats": {"GET": Operation(views.counts)},
        "/admin/connections": {"GET": Operation(views.connections)},
        "/admin/connections/close": {
            "POST": Operation(operation_views.close_request, consumes=JSON),
        },
        "/admin/connections/{id}": {"DELETE": Operation(views.close)},
    }
    routes = [Route(path, _Resource(context, found)) for path, found in paths.items()]
    app = Starlette(routes=routes, exception_handlers={404: _not_found})
    app.router.redirect_slashes = False
    return OriginCheck(_CleanPaths(app), names)
