"""Paths that a backend may read as another topic than the gateway did.

Called by `connection`. Topics are matched as paths are written, and a mapping passes parameters
as they are written (spec: routing §2, §5). A backend decodes them, and some drop what follows a
`;`: then `/rooms/%61dmin`, which is let in as `/rooms/{id}`, is `/rooms/admin` there. Where that
asks more of its callers, nobody gets at it by another spelling.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from trio_gw.wire.http import bad_request

if TYPE_CHECKING:
    from trio_gw.routes import Match, Route, RouteTable

_PATH_PARAMETER = re.compile(r";[^/]*")


def check(table: RouteTable, host: str, path: str, match: Match) -> None:
    """Raise Refusal (400) if another reading of the path is a topic with other demands."""
    if match.route.topic.mapping is None or not ("%" in path or ";" in path):
        return  # then nothing of the path is passed on, or it has one reading only
    decoded = unquote(path)
    for reading in {decoded, _PATH_PARAMETER.sub("", decoded), _PATH_PARAMETER.sub("", path)}:
        other = table.match(host, reading)
        if other is not None and _asks_more(other.route, match.route):
            raise bad_request("The path can be read as another topic; write it without escapes")


def _asks_more(other: Route, route: Route) -> bool:
    """Tell whether a caller of `route` may be none of `other`, a topic of the same API."""
    if other.api is not route.api or not other.secured:
        return False
    return not route.secured or _demands(other) != _demands(route)


def _demands(route: Route) -> tuple[object, ...]:
    scopes = route.topic.scopes
    return None if scopes is None else frozenset(scopes), route.topic.api_keys
