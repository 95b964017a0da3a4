"""Log in and log out: the form, its endpoints, and what scripts ask about their session.

spec: portal §3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import trio
from starlette.responses import RedirectResponse

from trio_gw.admin.context import too_many_attempts
from trio_gw.admin.json_responses import FaultError, empty_response, json_response
from trio_gw.guard.accounts import SlowDownError
from trio_gw.portal.addresses import client_urls, host_name
from trio_gw.portal.render import has_default_password, page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.session import set_cookie

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest

HOME = "/portal/"
WRONG = "User name or password is wrong."
MAX_FORM = 4096  # bytes
MAX_FIELD = 256  # characters of a user name or password
_OWN_PAGE = re.compile(r"/portal/[!-~]{0,500}")
_NEVER = ("\\", "//", "/.", "%2e")  # nothing that a browser takes for another place
_NO_STORE = {"Cache-Control": "no-store"}


def own_page(text: str) -> str:
    """Return a path of the portal to go to after the login: this one, if it is one."""
    if not _OWN_PAGE.fullmatch(text) or any(one in text.lower() for one in _NEVER):
        return HOME
    return HOME if text.startswith(("/portal/login", "/portal/api/")) else text


async def show_login(request: PortalRequest) -> Response:
    """`GET /portal/login`: the form; `next` is the page that was asked for."""
    target = own_page(request.query.get("next", ""))
    if request.caller.role:
        return RedirectResponse(target, 303)
    return await page(request, "login.html", title="Log in", target=target, user="", fault="")


async def login(request: PortalRequest) -> Response:
    """`POST /portal/login`: check the password and begin a session.

    Redirects to the page; with `Accept: application/json` it answers 204, or a fault.
    """
    body = await request.read(MAX_FORM)
    fields = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    user, password = fields.get("user", ""), fields.get("password", "")
    target, scripted = own_page(fields.get("next", "")), _is_scripted(request)
    try:
        found = await _checked(request, user, password)
    except SlowDownError as error:
        fault = too_many_attempts(error)
    else:
        if found is not None:
            # A session that the browser still has ends: nothing of it lives on in the new one.
            sessions = request.services.sessions
            await sessions.end(request.caller)
            token, _ = sessions.begin(found)
            response = empty_response(204) if scripted else RedirectResponse(target, 303)
            response.headers.update(_NO_STORE)
            set_cookie(request.http, response, token)
            return response
        fault = FaultError(401, WRONG)
    if scripted:
        return fault.response()
    values = {"target": target, "user": user[:MAX_FIELD], "fault": fault.message}
    response = await page(request, "login.html", title="Log in", status=fault.status, **values)
    response.headers.update(fault.headers)
    return response


async def _checked(request: PortalRequest, user: str, password: str) -> str | None:
    if max(len(user), len(password)) > MAX_FIELD:
        return None
    operators = request.services.context.operators
    return await operators.authenticate(
        user, password, address=request.address, at=trio.current_time()
    )


async def logout(request: PortalRequest) -> Response:
    """`POST /portal/logout`: end the session."""
    await request.services.sessions.end(request.caller)
    response = empty_response(204) if _is_scripted(request) else RedirectResponse(_LOGIN, 303)
    set_cookie(request.http, response, "")
    return response


async def session(request: PortalRequest) -> Response:
    """`GET /portal/api/session`: who is logged in, and what this gateway offers."""
    services, caller = request.services, request.caller
    host = host_name(request.http.headers.get("host", "localhost"))
    urls = client_urls(services.settings.portal, services.addresses, host)
    listeners = [{"url": url, "tls": url.startswith("wss:")} for url in urls]
    return json_response(
        {
            "user": caller.user,
            "role": caller.role.name.lower(),
            "expires": caller.expires,
            "listeners": listeners,
            "ruled": services.ruled,
            "default_password": has_default_password(services.settings.admin.users),
            "features": {
                "test_keys": services.testkeys is not None,
                "metrics": services.context.metrics is not None,
                "anonymous": services.settings.portal.anonymous,
            },
        }
    )


def _is_scripted(request: PortalRequest) -> bool:
    return "application/json" in request.http.headers.get("accept", "")


_LOGIN = "/portal/login"

ROUTES = (
    PortalRoute("GET", "/login", Role.NOBODY, show_login, Kind.PAGE),
    PortalRoute("POST", "/login", Role.NOBODY, login, Kind.FORM),
    PortalRoute("POST", "/logout", Role.NOBODY, logout, Kind.FORM),
    PortalRoute("GET", "/api/session", Role.CONSUMER, session),
)
