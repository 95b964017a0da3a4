"""The authorised topic is the topic that backends read, in every spelling of the path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.backends import Backend, start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    import trio


def topic(mapping: str | None, **more: Any) -> dict[str, Any]:
    return {"publish": {} if mapping is None else {"x-uri-mapping": mapping}, **more}


def scoped(mapping: str, *scopes: str) -> dict[str, Any]:
    return {"publish": {"x-uri-mapping": mapping, "x-scopes": list(scopes)}}


OPEN = {"x-auth-type": "None"}
CHANNELS = {
    "/r/admin": topic("/r/admin"),
    "/r/lobby": topic("/r/lobby", **OPEN),
    "/r/{id}": topic("/r/{uri.var.id}", **OPEN),
    "/r/{id}/keys": topic("/r/{uri.var.id}/keys"),
    "/s/admin": scoped("/s/admin", "boss"),
    "/s/{id}": scoped("/s/{uri.var.id}", "staff"),
    "/u/admin": topic("/u/admin"),
    "/u/{id}": topic("/u/{uri.var.id}"),
    "/n/admin": topic(None),
    "/n/{id}": topic(None, **OPEN),
}


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path, backend: Backend) -> RunningGateway:
    write(base / "apis", "m", api("M", "/m", backend.url), asyncapi(CHANNELS))
    return await start_gateway(nursery, base)


@pytest.mark.parametrize(
    "path",
    [
        *("/r/%61dmin", "/r/adm%69n", "/r/admin;x=1", "/r/%61dmin;x", "/r/admin%3Bx"),
        *("/r/7%2Fkeys", "/r/7%2fkeys", "/r/7%2Fkeys;x"),
        "/r/%61dmin;x%2fy",  # Tomcat drops up to the next raw slash, then decodes
        "/r/x%5Ckeys",  # the URL Standard
        *("/r/ADMIN", "/r/Admin/"),  # Express
    ],
)
async def test_an_open_topic_is_no_way_around(
    gateway: RunningGateway, backend: Backend, path: str
) -> None:
    answer = await gateway.ask(gateway.handshake("/m/1.0.0" + path))
    assert answer.status == 400
    assert "read as another topic" in answer.json()["description"]
    assert backend.requests == []


async def test_scopes_are_no_way_around(gateway: RunningGateway, backend: Backend) -> None:
    token = gateway.token("staff")
    request = gateway.handshake("/m/1.0.0/s/admin", token)
    assert (await gateway.ask(request)).status == 403
    request = gateway.handshake("/m/1.0.0/s/%61dmin", token)
    assert (await gateway.ask(request)).status == 400
    assert backend.requests == []


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        *((f"/r/{each}", f"/r/{each}") for each in ("%6Cobby", "a%20b", "a%2Fb", "7;x", "%C3%A9")),
        ("/n/%61dmin", "/"),  # nothing of the path is passed on
    ],
)
async def test_other_paths_pass_as_written(
    gateway: RunningGateway, backend: Backend, path: str, sent: str
) -> None:
    async with gateway.connect("/m/1.0.0" + path):
        assert backend.requests[-1].path == sent


async def test_the_same_demands_are_no_way_around_anything(
    gateway: RunningGateway, backend: Backend
) -> None:
    async with gateway.connect("/m/1.0.0/u/%61dmin", gateway.token()):
        assert backend.requests[-1].path == "/u/%61dmin"
