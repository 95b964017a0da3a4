"""Every route of the portal for every role, and what its requests must carry.

The requests have parameters that name nothing, and no useful body: where a role is enough, the
handler refuses them for that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.gateway import start_gateway
from support.portal_client import USERS, portal_client
from support.portal_roles import ANONYMOUS, WRITES, expected, lines
from trio_gw.app import worker
from trio_gw.portal.app import RULED, all_routes
from trio_gw.portal.routes import Kind, PortalRoute, Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import httpx2
    import trio

    from support.gateway import RunningGateway
    from support.portal_client import PortalClient

ROUTES = sorted(all_routes(), key=lambda route: (route.path, route.method))
UNSAFE = [route for route in ROUTES if route.method != "GET"]
USERS_BY_ROLE = {Role.NOBODY: "", Role.CONSUMER: "con", Role.PUBLISHER: "pub", Role.ADMIN: "ada"}
LOGOUT = "/logout"  # ends the session that the other requests need


def path_of(route: PortalRoute) -> str:
    """Fill the parameters in with values that name nothing."""
    return re.sub(r"\{(\w+)(:path)?\}", "none-0", route.path)


async def ask(
    browser: PortalClient, route: PortalRoute, headers: dict[str, str] | None = None
) -> httpx2.Response:
    """Make a request as a page of the portal does; of an answer that lasts only the head."""
    given = {"Origin": browser.origin, "X-Trio-GW": "1", **(headers or {})}
    given = {name: value for name, value in given.items() if value}
    request = browser.http.build_request(
        route.method, f"/portal{path_of(route)}", headers=given, content=b""
    )
    answer = await browser.http.send(request, stream=True)
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        await answer.aread()
    await answer.aclose()
    return answer


def is_refused(answer: httpx2.Response) -> bool:
    """Return whether the answer says that the role is not enough, or that there is none."""
    to_login = answer.headers.get("location", "").startswith("/portal/login")
    return answer.status_code in (401, 403) or (answer.status_code == 303 and to_login)


@pytest.fixture
async def gateway(nursery: trio.Nursery, tmp_path: Path) -> RunningGateway:
    return await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})


def test_each_route_has_a_row() -> None:
    roles = {(route.method, route.path): route.role.name.lower() for route in ROUTES}
    assert roles == expected()
    assert len(roles) == len(ROUTES)
    assert sorted(_rows(route for route in ROUTES if route.writes)) == sorted(lines(WRITES))
    assert sorted(_rows(route for route in ROUTES if route.anonymous)) == sorted(lines(ANONYMOUS))
    for route in ROUTES:
        changes = route.method != "GET" and route.kind is not Kind.FORM
        assert route.kind in (Kind.JSON,) or not changes, route
        assert not (route.writes and route.role < Role.CONSUMER), route


def _rows(routes: Iterable[PortalRoute]) -> list[tuple[str, str]]:
    return [(route.method, route.path) for route in routes]


async def test_each_role_at_each_route(gateway: RunningGateway) -> None:
    for role, user in USERS_BY_ROLE.items():
        async with portal_client(gateway, user) as browser:
            for route in ROUTES:
                if route.path == LOGOUT:
                    continue
                answer = await ask(browser, route)
                what = f"{role.name} {route.method} {route.path}: {answer.status_code}"
                if route.path == "/login":
                    assert answer.status_code in (200, 303, 401), what
                elif role >= route.role:
                    assert not is_refused(answer), what
                    assert answer.status_code != 500, what
                elif role is not Role.NOBODY:
                    assert answer.status_code == 403, what
                elif route.kind in (Kind.PAGE, Kind.FORM):
                    assert answer.status_code == 303, what
                else:
                    assert answer.status_code == 401, what
                    assert "www-authenticate" not in answer.headers, what


async def test_other_methods_are_refused(gateway: RunningGateway) -> None:
    known: dict[str, set[str]] = {}
    for route in ROUTES:
        known.setdefault(route.path, set()).add(route.method)
    async with portal_client(gateway, "ada") as browser:
        for path, methods in known.items():
            for method in {"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
                route = PortalRoute(method, path, Role.ADMIN, ROUTES[0].handle)
                answer = await ask(browser, route)
                assert answer.status_code == 405, (method, path)
                assert set(answer.headers["allow"].split(", ")) == methods


async def test_what_changes_something_comes_from_our_pages(gateway: RunningGateway) -> None:
    async with portal_client(gateway, "ada") as browser:
        for route in UNSAFE:
            bad = [{"Origin": ""}, {"Origin": "null"}, {"Origin": "https://evil.example"}]
            bad.append({"Sec-Fetch-Site": "cross-site"})
            if route.kind is Kind.JSON:
                bad += [{"X-Trio-GW": ""}, {"X-Trio-GW": "0"}]
            for headers in bad:
                answer = await ask(browser, route, headers)
                assert answer.status_code == 403, (route, headers)
        for route in ROUTES:
            if route.kind is Kind.WEBSOCKET:
                answer = await ask(browser, route, {"Origin": "https://evil.example"})
                assert answer.status_code == 403, route
            answer = await ask(browser, route, {"Host": "evil.example"})
            assert answer.status_code == 421, route
            if route.kind in (Kind.JSON, Kind.STREAM):
                answer = await ask(browser, route, {"Sec-Fetch-Site": "same-site"})
                assert answer.status_code == 403, route


@pytest.fixture
async def ruled(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunningGateway:
    """Run a gateway of an API Manager that does not answer."""
    monkeypatch.setattr(worker, "FIRST_PULL", 0.0)
    plane = {"url": "https://localhost:1/", "username": "admin", "password": "phai7Eih"}
    return await start_gateway(
        nursery,
        tmp_path,
        admin=True,
        admin_settings={"users": USERS},
        control_plane=plane,
        portal={"anonymous": True},
    )


async def test_nothing_is_changed_while_api_manager_rules(ruled: RunningGateway) -> None:
    async with portal_client(ruled, "ada") as browser:
        for route in ROUTES:
            if route.writes:
                answer = await ask(browser, route)
                assert answer.status_code == 403, route
                assert RULED in answer.text, route
    async with portal_client(ruled) as browser:
        for route in ROUTES:
            if route.anonymous:
                assert not is_refused(await ask(browser, route)), route
            elif route.role:
                assert is_refused(await ask(browser, route)), route
