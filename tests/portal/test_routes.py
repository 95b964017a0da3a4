"""How a path finds its route, what is compressed, and how many streams there may be."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from starlette.datastructures import Headers
from starlette.responses import Response

from trio_gw.admin.json_responses import FaultError
from trio_gw.portal.compression import LEAST, accepts_gzip, compress
from trio_gw.portal.routes import Kind, PortalRoute, PortalRoutes, Role
from trio_gw.portal.streams import LIMITS, Streams

if TYPE_CHECKING:
    from trio_gw.portal.request import PortalRequest


async def handle(request: PortalRequest) -> Response:
    raise AssertionError


PATHS = (
    *("/", "/apis/{id}", "/apis/{id}/topics", "/apis/{id}/topics/{n}", "/apis/new/topics"),
    *("/api/files/{path:path}", "/api/{kind}", "/login"),
)
TABLE = PortalRoutes(PortalRoute("GET", path, Role.ADMIN, handle) for path in PATHS)


@pytest.mark.parametrize(
    ("path", "pattern", "params"),
    [
        ("/", "/", {}),
        ("/login", "/login", {}),
        ("/apis/a%2Fb%20c", "/apis/{id}", {"id": "a/b c"}),
        ("/apis/Echo:1.0.0/topics", "/apis/{id}/topics", {"id": "Echo:1.0.0"}),
        ("/apis/new/topics", "/apis/new/topics", {}),
        ("/apis/a/topics/0", "/apis/{id}/topics/{n}", {"id": "a", "n": "0"}),
        ("/api/files/a/b%2e.yaml", "/api/files/{path:path}", {"path": "a/b..yaml"}),
        ("/api/x", "/api/{kind}", {"kind": "x"}),
    ],
)
def test_a_path_finds_its_route(path: str, pattern: str, params: dict[str, str]) -> None:
    found = TABLE.find(path)
    assert found is not None
    assert (found[0]["GET"].path, found[1]) == (pattern, params)


@pytest.mark.parametrize(
    "path", ["", "//", "/login/", "/Login", "/apis/", "/apis//topics", "/apis/a/b", "/login%2F"]
)
def test_other_paths_find_none(path: str) -> None:
    assert TABLE.find(path) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *(("gzip", True), ("br, gzip;q=0.5", True), ("GZIP", True), ("*", True)),
        *(("", False), ("br", False), ("gzip;q=0", False), ("gzip; q=0.000, br", False)),
        *(("xgzip", False), ("gzip-x", False)),
    ],
)
def test_gzip_is_sent_to_those_who_accept_it(given: str, expected: bool) -> None:
    headers = Headers({"accept-encoding": given})
    assert accepts_gzip(headers) is expected
    for size in (LEAST - 1, LEAST):
        response = Response(b"a" * size)
        compress(response, headers)
        packed = response.headers.get("content-encoding") == "gzip"
        assert packed is (expected and size >= LEAST)
        assert int(response.headers["content-length"]) == len(response.body)
        body = bytes(response.body)
        assert (gzip.decompress(body) if packed else body) == b"a" * size
        assert response.headers["vary"] == "Accept-Encoding"


def test_streams_are_limited_by_session_and_in_all() -> None:
    streams = Streams()
    limit = LIMITS[Kind.STREAM]
    held = []
    for number in range(limit.total):
        one = streams.held(Kind.STREAM, f"session {number // limit.session}")
        one.__enter__()
        held.append(one)
    with pytest.raises(FaultError) as caught, streams.held(Kind.STREAM, "another"):
        pass
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "5")
    with streams.held(Kind.WEBSOCKET, "another"), streams.held(Kind.JSON, "another"):
        pass
    held.pop().__exit__(None, None, None)
    with pytest.raises(FaultError), streams.held(Kind.STREAM, "session 0"):
        pass
    with streams.held(Kind.STREAM, "another"):
        pass
