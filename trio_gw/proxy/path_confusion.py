"""Requests that a backend may read as another topic than the gateway did.

Called by `connection`. Topics are matched as paths are written, and what is passed on is passed on
as it is written (spec: routing §2, §5). A backend decodes it, drops what follows a `;`, ignores the
case of letters: then `/rooms/%61dmin`, which is let in as `/rooms/{id}`, is `/rooms/admin` there.
Where that asks more of its callers, nobody gets at it by another spelling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.path_readings import (
    PLAIN,
    TooManyReadingsError,
    has_dot_segment,
    query_values,
    readings,
)
from trio_gw.segments import Work, WorkError
from trio_gw.wire.http import bad_request

if TYPE_CHECKING:
    from trio_gw.demands import Demands
    from trio_gw.routes import Match

STEPS = 4 * 4096  # of matching all readings of a request; a few milliseconds


def check(path: str, query: str, match: Match) -> None:
    """Raise Refusal (400) if what is passed on of a request can be read as more than it is.

    That is a way out of the endpoint's path, or another topic of the API that asks for more.
    """
    route = match.route
    demands = route.demands
    if not route.target.passes and (demands is None or not demands.names):
        return  # the backend's path is the same for everyone
    if demands is not None and demands.is_known(route.place, path):
        return
    mapped, asked = route.target.request(match.parameters, query, match.rest)
    if not PLAIN.fullmatch(mapped) and has_dot_segment(mapped):
        raise bad_request("The path must not hold . or .. segments")
    if demands is None:
        return
    work = Work(STEPS)
    try:
        conflict = _conflicts(demands, route.place, mapped, asked, work) or (
            route.target.passes
            and any(demands.client_conflict(route.place, each, work) for each in _readings(path))
        )
    except (TooManyReadingsError, WorkError):
        what = "The path can be read in too many ways; write it with fewer escapes"
        raise bad_request(what) from None
    if conflict:
        raise bad_request("The path can be read as another topic; write it without escapes")
    demands.remember(route.place, path)


def _conflicts(demands: Demands, topic: int, path: str, query: str, work: Work) -> bool:
    """Tell whether a request to the backend can be read as one of a topic that asks for more."""
    pairs: set[tuple[str, str]] = set()
    texts = _readings(path)
    if demands.names:
        pairs = query_values(query, demands.names)
        for text in texts:  # a reader that decodes first finds the query there
            pairs |= query_values(text.partition("?")[2], demands.names)
    return any(demands.backend_conflict(topic, text, pairs, work) for text in texts)


def _readings(path: str) -> set[str]:
    return {path} if PLAIN.fullmatch(path) else readings(path)
