"""Views of the running gateway for people and tools: APIs, routes, connections, problems.

They are not part of the reference system. Any worker can answer for all of them (`aggregate`). The
route table is the same in all workers: a deployment responds only after all have it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from starlette.responses import Response

import trio_gw
from trio_gw.admin import parameters
from trio_gw.admin.aggregate import RPC_TIMEOUT
from trio_gw.admin.control_plane_view import describe
from trio_gw.admin.json_responses import FaultError, empty_response, json_response, problem_list
from trio_gw.admin.matching import Matcher
from trio_gw.admin.parameters import TextParameter
from trio_gw.admin.rpc_messages import LISTED, MOST_LISTED, CloseConnection, ListConnections, Sort
from trio_gw.config import conditions
from trio_gw.errors import CloseCode, Problem
from trio_gw.routing.export import route_rows
from trio_gw.telemetry import families
from trio_gw.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from trio_gw.admin.context import Context
    from trio_gw.telemetry.families import Family
    from trio_gw.telemetry.metrics import Snapshot

REASON = "closed by an administrator"
_REASON = TextParameter("reason", most=100)
_MATCH = TextParameter("match", most=200)
_ADDRESS = TextParameter("address", most=50)
_SORT = TextParameter("sort", pattern=f"^({'|'.join(get_args(Sort))})$")
LONGEST_SAMPLE = 5000  # milliseconds
_RATE_SAMPLE = 1000  # milliseconds; default if sorted by rate
# Close codes that a server may send (RFC 6455 §7.4), in addition to 3000 to 4999.
CODES = frozenset((1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013))

_COUNTED = {"messages": families.MESSAGES, "frames": families.FRAMES, "bytes": families.OCTETS}
# Statuses that are not refusals: client left, upgraded, answered by the gateway.
_ANSWERED = {"0", "101", "200", "204"}


async def apis(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/apis`: list what is served, its source and its addresses."""
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
    return json_response(items)


async def metrics(context: Context, request: Request, _: str) -> Response:
    """`GET /metrics`: the metrics of all workers, as OpenMetrics text."""
    if context.metrics is None:
        raise FaultError(404, "metrics are turned off (metrics.enabled)")
    return Response(await context.metrics.expose(), media_type=CONTENT_TYPE)


async def routes(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/routes`: the route table, as printed by `trio-gw routes --json`."""
    table = context.live.table
    body = {"generation": context.live.generation, "digest": table.digest}
    return json_response({**body, "routes": route_rows(table)})


async def denials(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/denials`: the active deny conditions; with `address` those that apply to it."""
    given = request.query_params
    limit = parameters.whole_number("limit", given, most=MOST_LISTED) or LISTED
    listed = context.blocklist.listed()
    if address := _ADDRESS.read(given):
        try:
            asked = conditions.number(address)
        except ValueError:
            raise FaultError(422, "address in query is not an IP address", 605) from None
        listed = ((source, one) for source, one in listed if one.concerns(*asked))
    rows: list[dict[str, Any]] = []
    total = 0
    for source, one in listed:
        total += 1
        if total <= limit:
            row = {"kind": one.kind, "names": one.key, "invert": one.invert}
            rows.append({**row, "reason": one.reason, "source": source})
    return json_response({"total": total, "conditions": rows})


async def problems(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/problems`: current problems of the projects; also workers that did not
    respond.
    """
    found, missing = await context.aggregate.problems()
    what = f"no response within {RPC_TIMEOUT:.0f} s; problems of this worker alone are missing"
    found += [Problem(f"worker {number}", 0, 0, what, severity="warning") for number in missing]
    return json_response(problem_list(found))


async def control_plane(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/control-plane`: pulls, brokers, events and problems of the control plane."""
    found = await context.aggregate.control_plane()
    if found is None:
        raise FaultError(404, "there is no control plane (control_plane.url)")
    return json_response(describe(*found))


async def counts(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/stats`: the workers, and their counts by API.

    `clock` never goes backwards; use it to compute rates from two responses.
    """
    aggregate = context.aggregate
    stats = await aggregate.stats()
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
        "missing": [] if stats is None else stats[1],
        "apis": None if stats is None else _stats_by_api(stats[0]),
    }
    return json_response(body)


async def connections(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/connections`: list connections with target, age and traffic."""
    given = request.query_params
    limit = parameters.whole_number("limit", given, most=MOST_LISTED)
    sort = msgspec.convert(_SORT.read(given) or "age", Sort)
    sample = parameters.whole_number("sample", given, most=LONGEST_SAMPLE)
    if sample is None:
        sample = _RATE_SAMPLE if sort == "rate" else 0
    asked = ListConnections(limit or LISTED, sort, read_match(given), sample / 1000)
    found, missing = await context.aggregate.connections(asked)
    return json_response({**msgspec.structs.asdict(found), "missing": missing})


def read_match(given: Mapping[str, str]) -> str:
    """Read the filter of connections from a query. Raises `FaultError`."""
    text = _MATCH.read(given)
    try:
        Matcher(text)
    except ValueError as error:
        raise FaultError(422, str(error), 605) from None
    return text


async def close(context: Context, request: Request, _: str) -> Response:
    """`DELETE /admin/connections/<id>`: close a connection with a code and a reason."""
    number = request.path_params["id"][:200]
    reason = _REASON.read(request.query_params) or REASON
    code = parameters.whole_number("code", request.query_params) or CloseCode.POLICY
    if not (code in CODES or 3000 <= code <= 4999):
        message = "code in query is not a close code that a gateway may send: 1008, or 3000 to 4999"
        raise FaultError(422, message, 605)
    found, missing = await context.aggregate.close(CloseConnection(number, code, reason))
    if found:
        return empty_response()
    what = f"there is no connection {number[:80]}"
    if missing:
        silent = ", ".join(map(str, missing))
        raise FaultError(503, f"{what} in the other workers; worker {silent} did not respond")
    raise FaultError(404, what)


def _stats_by_api(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the counts of each API. Requests that belong to no API have an empty name."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}

    def row(labels: tuple[str, ...], family: Family) -> dict[str, Any]:
        named = dict(zip(family.labels, labels, strict=True))
        key = named["api"], named["version"]
        if key not in rows:
            rows[key] = {"api": key[0], "version": key[1]}
            rows[key] |= dict.fromkeys(("open", "opened", "closed", "refused", "throttled"), 0)
            rows[key] |= {way: dict.fromkeys(_COUNTED, 0) for way in ("in", "out")}
        return rows[key]

    def add(name: str, family: Family) -> None:
        for labels, (amount, *_) in snapshot.get(family.name, {}).items():
            row(labels, family)[name] += int(amount)

    add("open", families.OPEN)
    add("opened", families.OPENED)
    add("closed", families.CLOSED)
    add("throttled", families.THROTTLED)
    for labels, (amount, *_) in snapshot.get(families.HANDSHAKES.name, {}).items():
        named = dict(zip(families.HANDSHAKES.labels, labels, strict=True))
        if named["status"] not in _ANSWERED:
            row(labels, families.HANDSHAKES)["refused"] += int(amount)
    for name, family in _COUNTED.items():
        for labels, (amount, *_) in snapshot.get(family.name, {}).items():
            row(labels, family)[labels[-1]][name] += int(amount)
    return [rows[key] for key in sorted(rows)]
