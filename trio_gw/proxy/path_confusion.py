"""Refuses requests that a backend may read as a different topic than the gateway did.

Called by `connection`. Topics are matched, and paths are passed on, exactly as they are written
(spec: routing §2, §5). A backend may decode the path, cut it at a `;`, or ignore case: then
`/rooms/%61dmin`, which matches `/rooms/{id}` here, is `/rooms/admin` there. If that topic requires
more of its callers, another spelling must not give access to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.routing.path_interpretations import (
    PLAIN,
    TooManyInterpretationsError,
    has_dot_segment,
    interpretations,
    query_values,
)
from trio_gw.routing.segments import Work, WorkError
from trio_gw.wire.http import bad_request

if TYPE_CHECKING:
    from trio_gw.routing.access_index import AccessIndex
    from trio_gw.routing.route import Match

STEPS = 4 * 4096  # of work to match all readings of a request; a few milliseconds


def check(path: str, query: str, match: Match) -> None:
    """Raise `Refusal` (400) if the backend could read the request as more than was authorized.

    That is a path outside the endpoint's path, or a topic of the API that requires more.
    """
    route = match.route
    access = route.access
    if not route.target.passes and (access is None or not access.names):
        return  # the path at the backend does not depend on the request
    if access is not None and access.is_known(route.rank, path):
        return
    mapped, asked = route.target.request(match.parameters, query, match.rest)
    if not PLAIN.fullmatch(mapped) and has_dot_segment(mapped):
        raise bad_request("The path must not hold . or .. segments")
    if access is None:
        return
    work = Work(STEPS)
    try:
        conflict = _conflicts(access, route.rank, mapped, asked, work) or (
            route.target.passes
            and any(
                access.client_conflict(route.rank, each, work) for each in _interpretations(path)
            )
        )
    except (TooManyInterpretationsError, WorkError):
        what = "The path can be read in too many ways; write it with fewer escapes"
        raise bad_request(what) from None
    if conflict:
        raise bad_request("The path can be read as another topic; write it without escapes")
    access.remember(route.rank, path)


def _conflicts(access: AccessIndex, topic: int, path: str, query: str, work: Work) -> bool:
    """Whether the backend can read the request as a topic that requires more."""
    pairs: set[tuple[str, str]] = set()
    texts = _interpretations(path)
    if access.names:
        pairs = query_values(query, access.names)
        for text in texts:  # a reader that decodes first finds the query there
            pairs |= query_values(text.partition("?")[2], access.names)
    return any(access.backend_conflict(topic, text, pairs, work) for text in texts)


def _interpretations(path: str) -> set[str]:
    return {path} if PLAIN.fullmatch(path) else interpretations(path)
