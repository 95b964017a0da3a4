"""The portal as an ASGI application: checks a request, finds its route, and calls the handler.

Every request passes the checks here, so a new route cannot bypass them: the host, the origin of
what changes something, the session, the role. spec: portal §3.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from trio_gw.admin.context import authenticated
from trio_gw.admin.json_responses import JSON, FaultError
from trio_gw.guard.authority import AuthorityNames
from trio_gw.guard.crosssite import SAFE
from trio_gw.portal import (
    application_pages,
    applications,
    catalogue,
    deployments,
    document_page,
    explain_page,
    lifecycle,
    lifecycle_page,
    login,
    overview,
    revision_pages,
    revisions,
    security,
    testkeys,
    topics,
)
from trio_gw.portal.addresses import host_name, policy_sources
from trio_gw.portal.caller import MOST_ROLE, Caller
from trio_gw.portal.compression import MOST_AT_ONCE, compress
from trio_gw.portal.console import ROUTES as CONSOLE
from trio_gw.portal.editing import draft_endpoints, endpoints, pages
from trio_gw.portal.errors import error_page
from trio_gw.portal.operate import ROUTES as OPERATE
from trio_gw.portal.render import STATIC, offer
from trio_gw.portal.request import PortalRequest
from trio_gw.portal.routes import Kind, PortalRoute, PortalRoutes
from trio_gw.portal.session import set_cookie
from trio_gw.portal.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Receive, Scope, Send

    from trio_gw.guard.roles import Role
    from trio_gw.portal.services import PortalServices

log = logging.getLogger("trio_gw.portal")

# Modules that have pages or endpoints, each with its `ROUTES`.
FEATURES = (
    application_pages,
    applications,
    catalogue,
    deployments,
    document_page,
    *(
        draft_endpoints,
        endpoints,
        explain_page,
        lifecycle,
        lifecycle_page,
        login,
        overview,
        pages,
        revision_pages,
    ),
    revisions,
    testkeys,
    topics,
)

MARK = "x-trio-gw"  # header that only scripts of the portal send
_LOCAL = AuthorityNames(("localhost",))  # of the listener without TLS
_HTML = "text/html; charset=utf-8"
_NO_STORE = {"Cache-Control": "no-store"}
RULED = "API Manager rules here: what it does not do is not done at the gateway either."


def all_routes() -> tuple[PortalRoute, ...]:
    """Return the routes of all features, and of the static files."""
    found: list[PortalRoute] = [STATIC.route()]
    for feature in FEATURES:
        found += feature.ROUTES
    found += CONSOLE
    found += OPERATE
    return tuple(found)


class _ElsewhereError(Exception):
    """The page is at another path."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


class PortalApp:
    """The application."""

    def __init__(
        self, services: PortalServices, routes: Iterable[PortalRoute] | None = None
    ) -> None:
        self._services = services
        self._table = PortalRoutes(all_routes() if routes is None else routes)
        self._streams = Streams()
        offer(route.path for route in self._table.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        http = Request(scope, receive)
        headers = [*security.FIXED, (b"content-security-policy", self._policy(http))]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [one for one in headers if one[0] not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        with contextlib.suppress(ClientDisconnect), contextlib.ExitStack() as held:
            response = await self._respond(http, held)
            await response(scope, receive, answer)

    async def _respond(self, http: Request, held: contextlib.ExitStack) -> Response:
        kind, caller = Kind.PAGE, Caller()
        try:
            self._check_host(http)
            path = http.scope["raw_path"].decode("ascii").removeprefix("/portal")
            if not path:
                raise _ElsewhereError("/portal/")
            kind = Kind.JSON if path.startswith("/api/") else Kind.PAGE
            route, params = self._route(http.method, path)
            kind, renewed = route.kind, None
            _check_origin(http, kind)
            if kind is not Kind.FILE:
                caller, renewed = await self._services.sessions.caller(http)
                most: Role = http.scope["extensions"][MOST_ROLE]
                caller = caller._replace(role=min(caller.role, most))
            if caller.role:
                authenticated(http)
            self._check_role(http, route, caller)
            held.enter_context(self._streams.held(kind, caller.session))
            request = PortalRequest(self._services, caller, params, http)
            response = await route.handle(request)
            await self._finish(http, response, kind, renewed)
        except _ElsewhereError as error:
            if http.headers.get("sec-fetch-site") == "cross-site" and http.method in SAFE:
                return _ask_again(http)
            return RedirectResponse(error.path, 303, headers=_NO_STORE)
        except FaultError as error:
            return await self._refusal(http, error, kind, caller)
        except ClientDisconnect:
            raise
        except Exception:
            # The traceback is for the operator only.
            log.exception("%s %s failed", http.method, http.url.path)
            fault = FaultError(500, "internal error; see the log of the gateway")
            return await self._refusal(http, fault, kind, caller)
        return response

    async def _finish(
        self, http: Request, response: Response, kind: Kind, renewed: str | None
    ) -> None:
        sets = any(name == b"set-cookie" for name, _ in response.raw_headers)
        if renewed is not None and not sets and kind in (Kind.PAGE, Kind.JSON, Kind.FORM):
            set_cookie(http, response, renewed)
        if kind is not Kind.FILE:
            response.headers.setdefault("cache-control", "no-store")
        if kind is Kind.JSON and hasattr(response, "body"):
            if len(response.body) > MOST_AT_ONCE:
                await self._services.in_thread(partial(compress, response, http.headers))
            else:
                compress(response, http.headers)

    def _route(self, method: str, path: str) -> tuple[PortalRoute, dict[str, str]]:
        if (found := self._table.find(path)) is None:
            raise FaultError(404, "there is no such page")
        methods, params = found
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            message = f"method {method[:20]} is not allowed, but {allowed}"
            raise FaultError(405, message, headers={"Allow": allowed})
        return route, params

    def _check_host(self, http: Request) -> None:
        authority, server = http.headers.get("host", ""), http.scope["server"][0]
        names = self._services.names if http.scope["scheme"] == "https" else _LOCAL
        if not security.is_known_host(authority, names, server):
            what = f'"{authority[:80]}" is not a name of this gateway; add it to portal.hosts'
            raise FaultError(421, f"{what} if it should be")

    def _check_role(self, http: Request, route: PortalRoute, caller: Caller) -> None:
        settings = self._services.settings.portal
        if caller.role < route.role and not (route.anonymous and settings.anonymous):
            if caller.role:
                raise FaultError(403, f"this needs the role {route.role.name.lower()}")
            if route.kind in (Kind.PAGE, Kind.FORM):
                raise _ElsewhereError(_login_path(http, route.kind))
            raise FaultError(401, "log in first")
        if route.writes and self._services.ruled:
            raise FaultError(403, RULED)

    async def _refusal(
        self, http: Request, fault: FaultError, kind: Kind, caller: Caller
    ) -> Response:
        # Scripts send the login form too, and read why it was refused.
        scripted = kind is Kind.FORM and JSON in http.headers.get("accept", "")
        if kind in (Kind.PAGE, Kind.FORM) and fault.status != 421 and not scripted:
            response = await error_page(PortalRequest(self._services, caller, {}, http), fault)
        else:
            response = fault.response()
        response.headers.setdefault("cache-control", "no-store")
        return response

    def _policy(self, http: Request) -> bytes:
        host = host_name(http.headers.get("host", ""))
        services = self._services
        return security.policy(policy_sources(services.settings, services.addresses, host))


def _login_path(http: Request, kind: Kind) -> str:
    """Return the path of the login, which leads back to the page that was asked for."""
    return f"/portal/login?next={quote(_asked(http))}" if kind is Kind.PAGE else "/portal/login"


def _asked(http: Request) -> str:
    raw, query = http.scope["raw_path"], http.scope["query_string"]
    return str((raw + (b"?" + query if query else b"")).decode("ascii", "replace"))


def _ask_again(http: Request) -> Response:
    """Let the browser ask from a page of the portal.

    It sends no cookie with `SameSite=Strict` where a link on a page of another site leads to, also
    if the user is logged in.
    """
    headers = {**_NO_STORE, "Refresh": f"0; url={_asked(http)}"}
    return Response("<!doctype html><title>trio-gw</title>", headers=headers, media_type=_HTML)


def _check_origin(http: Request, kind: Kind) -> None:
    """Refuse what web pages of other origins ask for. Raises `FaultError`."""
    safe = http.method in SAFE
    if kind is Kind.FILE or (kind is Kind.PAGE and safe):
        return
    own = security.is_own_origin(http.headers, http.scope["scheme"], http.scope["server"][1])
    if kind is Kind.WEBSOCKET or not safe:
        if not own:
            raise FaultError(403, "only pages of this portal may do that (Origin)")
    elif http.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise FaultError(403, "only pages of this portal may read that (Sec-Fetch-Site)")
    if kind is Kind.JSON and not safe and http.headers.get(MARK) != "1":
        raise FaultError(403, "the header X-Trio-GW: 1 is missing")
