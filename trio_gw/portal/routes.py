"""The routes of the portal: path, method, the least role, and what answers."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from trio_gw.guard.roles import Role
from trio_gw.portal.caller import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest

__all__ = ["Caller", "Kind", "PortalRoute", "PortalRoutes", "Role"]


class Kind(Enum):
    """What kind of client a route is for, which decides how requests are checked and refused."""

    PAGE = auto()  # HTML; without a session it redirects to the login
    JSON = auto()  # requests of scripts; those that change something need `X-Trio-GW: 1`
    FORM = auto()  # the POST of an HTML form
    STREAM = auto()  # an event stream
    WEBSOCKET = auto()
    FILE = auto()  # a static file; the same for everybody


class PortalRoute(NamedTuple):
    """One method of one path below `/portal`; `{name}` is a segment, `{name:path}` the rest.

    `role` is the least role. A route that `writes` is refused under a control plane. One that is
    `anonymous` needs no session if the setting `portal.anonymous` allows that; its handler then
    sees a caller with the role `NOBODY`.
    """

    method: str
    path: str
    role: Role
    handle: Callable[[PortalRequest], Awaitable[Response]]
    kind: Kind = Kind.JSON
    writes: bool = False
    anonymous: bool = False


class PortalRoutes:
    """Finds the route of a request. Segments with fixed text win over parameters."""

    def __init__(self, routes: Iterable[PortalRoute]) -> None:
        self.routes = tuple(routes)
        self._paths: dict[tuple[str, ...], dict[str, PortalRoute]] = {}
        for route in self.routes:
            methods = self._paths.setdefault(tuple(route.path.split("/")[1:]), {})
            assert route.method not in methods, route
            methods[route.method] = route
        self._patterns = sorted(self._paths, key=_rank)

    def find(self, raw_path: str) -> tuple[dict[str, PortalRoute], dict[str, str]] | None:
        """Return the routes of a path by method, and the parameters; None if there are none.

        `raw_path` is the path below `/portal`, still percent-encoded.
        """
        segments = raw_path.split("/")[1:]
        for pattern in self._patterns:
            if (params := _matched(pattern, segments)) is not None:
                return self._paths[pattern], params
        return None


def _rank(pattern: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    return tuple((one.startswith("{") + one.endswith(":path}"), one) for one in pattern)


def _matched(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    rest = pattern[-1].endswith(":path}")
    if len(segments) < len(pattern) or (len(segments) > len(pattern) and not rest):
        return None
    params: dict[str, str] = {}
    for place, (one, given) in enumerate(zip(pattern, segments, strict=False)):
        if one.endswith(":path}"):
            params[one[1:-6]] = unquote("/".join(segments[place:]))
        elif one.startswith("{"):
            if not given:
                return None
            params[one[1:-1]] = unquote(given)
        elif one != given:
            return None
    return params
