"""What runs, for people and tools: APIs, routes, connections, problems. Ours, not the reference's.

Of several workers the one that answers tells of its own connections.
"""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

import trio
from starlette.responses import Response

from trio_gw.admin import parameters
from trio_gw.admin.answers import FaultError, answer, empty, told
from trio_gw.admin.parameters import Text
from trio_gw.errors import CloseCode
from trio_gw.feed import listing
from trio_gw.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from trio_gw.admin.context import Context
    from trio_gw.proxy.sessions import Session
    from trio_gw.relay.lane import Lane

REASON = "closed by an administrator"
_REASON = Text("reason", most=100)
# What a server may say of its own accord (RFC 6455 §7.4), and what is for applications.
_CODES = frozenset((1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013))


async def apis(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/apis`: what is served, from where, and where."""
    items = []
    for one in context.deployer.served():
        api = one.project
        items.append(
            {
                "api": api.title,
                "id": api.id,
                "organization": api.organization,
                "host": one.host,
                "environments": list(one.environments),
                "path": api.base_path,
                "folder": api.folder,
                "lifecycle": api.lifecycle,
                "topics": [topic.name for topic in api.topics],
            }
        )
    return answer(items)


async def metrics(context: Context, request: Request, _: str) -> Response:
    """`GET /metrics`: the numbers of all workers, as OpenMetrics text."""
    if context.metrics is None:
        raise FaultError(404, "metrics are turned off (metrics.enabled)")
    return Response(context.metrics.exposition(), media_type=CONTENT_TYPE)


async def routes(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/routes`: the table, as `trio-gw routes --json` prints it."""
    table = context.live.table
    body = {"generation": context.live.generation, "digest": table.digest}
    return answer({**body, "routes": listing.rows(table)})


async def problems(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/problems`: what is wrong with the projects now."""
    return answer(told(context.catalog.problems))


async def connections(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/connections`: who is connected, to what, since when, how busy."""
    limit = parameters.whole_number("limit", request.query_params)
    open_now = [session for session in context.sessions if session.publish is not None]
    body: dict[str, Any] = {"total": len(open_now)}
    body["connections"] = [_connection(session) for session in open_now[:limit]]
    return answer(body)


async def close(context: Context, request: Request, _: str) -> Response:
    """`DELETE /admin/connections/<id>`: end one, with a code and a reason."""
    number = request.path_params["id"]
    reason = _REASON.read(request.query_params) or REASON
    code = parameters.whole_number("code", request.query_params) or CloseCode.POLICY
    if not (code in _CODES or 3000 <= code <= 4999):
        message = "code in query is no close code that a gateway may send: 1008, or 3000 to 4999"
        raise FaultError(422, message, 605)
    for session in context.sessions:
        if session.publish is not None and session.request_id == number:
            session.end(code, reason)
            return empty()
    raise FaultError(404, f"there is no connection {number[:80]}")


def _connection(session: Session) -> dict[str, Any]:
    now = trio.current_time()
    route, caller = session.route, session.caller
    assert session.publish is not None
    assert session.subscribe is not None
    return {
        "id": session.request_id,
        "peer": session.peer,
        "since": _iso(time.time() - (now - session.opened_at)),
        "seconds": round(now - session.opened_at, 3),
        "request": session.request,
        "api": None if route is None else route.api.title,
        "topic": None if route is None else route.topic.name,
        "subject": None if caller is None or caller.anonymous else caller.subject,
        "application": None if caller is None else caller.application.name or None,
        "expires": None if caller is None or not caller.expires_at else _iso(caller.expires_at),
        "publish": _lane(session.publish),
        "subscribe": _lane(session.subscribe),
    }


def _lane(lane: Lane) -> dict[str, int]:
    return {"messages": lane.messages, "frames": lane.frames, "bytes": lane.octets}


def _iso(epoch: float) -> str:
    moment = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
