"""What runs, for people and tools: APIs, routes, connections, problems. Ours, not the reference's.

Of several workers any may answer, for all of them (`aggregate`). The table is the same in all:
what one of them says of it is what a deployment's answer has waited for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from starlette.responses import Response

import trio_gw
from trio_gw.admin import parameters, stats
from trio_gw.admin.aggregate import PATIENCE
from trio_gw.admin.json_responses import FaultError, answer, empty, problem_list
from trio_gw.admin.parameters import TextParameter
from trio_gw.admin.rpc_messages import LISTED, MOST_LISTED, CloseConnection, ListConnections, Sort
from trio_gw.config import conditions
from trio_gw.errors import CloseCode, Problem
from trio_gw.routing.export import route_rows
from trio_gw.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from trio_gw.admin.context import Context

REASON = "closed by an administrator"
_REASON = TextParameter("reason", most=100)
_MATCH = TextParameter("match", most=200)
_ADDRESS = TextParameter("address", most=50)
_SORT = TextParameter("sort", pattern=f"^({'|'.join(get_args(Sort))})$")
LONGEST_SAMPLE = 5000  # milliseconds
_RATE_SAMPLE = 1000  # unless it is given, for an order by rate
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
    return Response(await context.metrics.tell(), media_type=CONTENT_TYPE)


async def routes(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/routes`: the table, as `trio-gw routes --json` prints it."""
    table = context.live.table
    body = {"generation": context.live.generation, "digest": table.digest}
    return answer({**body, "routes": route_rows(table)})


async def denials(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/denials`: the deny conditions in force; of an `address` those that concern it."""
    given = request.query_params
    limit = parameters.whole_number("limit", given, most=MOST_LISTED) or LISTED
    listed = context.blocklist.listed()
    if address := _ADDRESS.read(given):
        try:
            asked = conditions.number(address)
        except ValueError:
            raise FaultError(422, "address in query is no IP address", 605) from None
        listed = ((source, one) for source, one in listed if one.concerns(*asked))
    rows: list[dict[str, Any]] = []
    total = 0
    for source, one in listed:
        total += 1
        if total <= limit:
            row = {"kind": one.kind, "names": one.key, "invert": one.invert}
            rows.append({**row, "reason": one.reason, "source": source})
    return answer({"total": total, "conditions": rows})


async def problems(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/problems`: what is wrong with the projects now; also whom could not be asked."""
    found, missing = await context.aggregate.problems()
    what = f"no answer within {PATIENCE:.0f} s; what it alone knows is not told here"
    found += [Problem(f"worker {number}", 0, 0, what, severity="warning") for number in missing]
    return answer(problem_list(found))


async def counts(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/stats`: the workers, and what they have counted by API.

    `clock` is for who divides by the time between two answers: it only goes forward.
    """
    aggregate = context.aggregate
    numbers = await aggregate.numbers()
    now = time.time()
    body: dict[str, Any] = {
        "version": trio_gw.__version__,
        "time": now,
        "clock": time.monotonic(),
        "uptime": max(0.0, now - aggregate.shared_state.started),
        "workers": [
            {"worker": place, "state": state.name.lower(), "connections": held, "accepted": ever}
            for place, (state, (held, ever)) in enumerate(
                zip(aggregate.shared_state.states(), aggregate.shared_state.clients(), strict=True),
                1,
            )
        ],
        "missing": [] if numbers is None else numbers[1],
        "apis": None if numbers is None else stats.stats_by_api(numbers[0]),
    }
    return answer(body)


async def connections(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/connections`: who is connected, to what, since when, how busy."""
    given = request.query_params
    limit = parameters.whole_number("limit", given, most=MOST_LISTED)
    sort = msgspec.convert(_SORT.read(given) or "age", Sort)
    sample = parameters.whole_number("sample", given, most=LONGEST_SAMPLE)
    if sample is None:
        sample = _RATE_SAMPLE if sort == "rate" else 0
    asked = ListConnections(limit or LISTED, sort, _MATCH.read(given), sample / 1000)
    found, missing = await context.aggregate.connections(asked)
    return answer({**msgspec.structs.asdict(found), "missing": missing})


async def close(context: Context, request: Request, _: str) -> Response:
    """`DELETE /admin/connections/<id>`: end one, with a code and a reason."""
    number = request.path_params["id"][:200]
    reason = _REASON.read(request.query_params) or REASON
    code = parameters.whole_number("code", request.query_params) or CloseCode.POLICY
    if not (code in _CODES or 3000 <= code <= 4999):
        message = "code in query is no close code that a gateway may send: 1008, or 3000 to 4999"
        raise FaultError(422, message, 605)
    found, missing = await context.aggregate.close(CloseConnection(number, code, reason))
    if found:
        return empty()
    what = f"there is no connection {number[:80]}"
    if missing:
        numbers = ", ".join(map(str, missing))
        raise FaultError(503, f"{what}, unless worker {numbers} has it, which gave no answer")
    raise FaultError(404, what)
