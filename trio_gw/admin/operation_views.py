"""Views of an operator: history, endings, limits, backends, deny conditions, log; closing many.

Served below `/admin` and, with a session instead of a password, by the portal.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgspec
import trio

from trio_gw.admin import denial_file, parameters
from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.admin.matching import Matcher
from trio_gw.admin.operation_messages import LONGEST_MATCH, GetLog
from trio_gw.admin.parameters import TextParameter
from trio_gw.admin.views import CODES, REASON
from trio_gw.config.conditions import Kind, condition
from trio_gw.errors import CloseCode
from trio_gw.guard.blocklist import FILE
from trio_gw.telemetry.history import Span
from trio_gw.telemetry.log_ring import masked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from trio_gw.admin.all_workers import AllWorkers
    from trio_gw.admin.context import Context
    from trio_gw.config.conditions import Condition
    from trio_gw.proxy.ending_log import EndingRow

log = logging.getLogger("trio_gw.admin")

T = TypeVar("T")

MAX_BODY = 16 << 10  # bytes
MAX_REASON = 100  # characters; a Close frame has room for 123 octets
IN_FORCE = 3.0  # seconds to wait until a changed file is read
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_API = TextParameter("api", most=512)
_SPAN = TextParameter("span", pattern=f"^({'|'.join(get_args(Span))})$")
_LEVEL = TextParameter("level", pattern=f"^({'|'.join(LEVELS)})$")
_LOGGER = TextParameter("logger", most=100)
_MATCH = TextParameter("match", most=LONGEST_MATCH)


class MatchingClose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which connections to close, and how many there should be; with `dry_run` count only."""

    match: str
    code: int = int(CloseCode.POLICY)
    reason: str = REASON
    expect: int | None = None
    dry_run: bool = False


class DenyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One condition of the file."""

    kind: Kind
    key: str
    invert: bool = False
    reason: str = ""


def workers_of(context: Context) -> AllWorkers:
    """Return what asks all workers."""
    assert context.workers is not None
    return context.workers


async def history(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/history`: a series of numbers, of all APIs or of one."""
    given = request.query_params
    span = msgspec.convert(_SPAN.read(given) or "5m", Span)
    api = _API.read(given)
    name, _colon, version = api.rpartition(":")
    wanted = (name, version) if api else None
    found = await workers_of(context).history(span, wanted)
    if found.series is None:
        if context.metrics is None:
            raise FaultError(404, "metrics are turned off (metrics.enabled)")
        return json_response({"series": None, "since": None, "missing": found.missing})
    series = found.series
    body = {"step": series.step, "last": series.last, "columns": series.columns}
    return json_response(
        {"series": body, "since": found.since, "now": time.time(), "missing": found.missing}
    )


def ending_row(worker: int, row: EndingRow) -> dict[str, Any]:
    """Describe an ending for JSON."""
    return {"worker": worker, **msgspec.structs.asdict(row)}


async def endings(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/endings`: the last connections that ended or were refused, the newest first."""
    found = await workers_of(context).endings()
    rows = [ending_row(*one) for one in found.rows]
    return json_response({"endings": rows[::-1], "missing": found.missing})


async def limits(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/limits`: the limits that are reached, and until when."""
    found = await workers_of(context).limits()
    return json_response({**found._asdict(), "now": time.time()})


async def backends(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/backends`: the backends that were used, those that are down first."""
    found, missing = await workers_of(context).backends()
    rows = [one._asdict() for one in found]
    return json_response({"backends": rows, "missing": missing, "now": time.time()})


async def log_lines(context: Context, request: Request, _: str) -> Response:
    """`GET /admin/log`: the last lines of the log, from a level on."""
    given = request.query_params
    level = LEVELS[_LEVEL.read(given) or "debug"]
    asked = GetLog(level, _LOGGER.read(given), _MATCH.read(given))
    lines, missing = await workers_of(context).log(asked)
    return json_response({"lines": lines, "missing": missing})


async def close_matching(context: Context, asked: MatchingClose, user: str) -> Response:
    """Close all connections that match, if their number is the expected one."""
    code = asked.code
    if not (code in CODES or 3000 <= code <= 4999):
        message = "code is not a close code that a gateway may send: 1008, or 3000 to 4999"
        raise FaultError(422, message)
    if len(asked.reason) > MAX_REASON or len(asked.reason.encode("utf-8", "replace")) > 123:
        raise FaultError(422, f"reason is longer than {MAX_REASON} characters")
    if len(asked.match) > LONGEST_MATCH:
        raise FaultError(422, f"match is longer than {LONGEST_MATCH} characters")
    try:
        Matcher(asked.match)
    except ValueError as error:
        raise FaultError(422, str(error)) from None
    if not asked.dry_run and asked.expect is None:
        raise FaultError(422, "expect is missing: how many connections should be closed")
    found = await workers_of(context).close(
        asked.match, 0 if asked.dry_run else code, asked.reason or REASON, asked.expect
    )
    matching, closed, missing = found
    if missing:
        silent = ", ".join(map(str, missing))
        raise FaultError(503, f"worker {silent} did not respond; {closed} connections were closed")
    if asked.dry_run:
        return json_response({"matching": matching})
    if matching != asked.expect:
        message = f"{matching} connections match now, not {asked.expect}; nothing was closed"
        raise FaultError(409, message)
    what = masked(asked.match) or "(all)"
    log.warning("%s closes %d connections that match %s: %d", user, closed, what, code)
    return json_response({"closed": closed})


async def close_request(context: Context, request: Request, user: str) -> Response:
    """`POST /admin/connections/close`: the body is a `MatchingClose`."""
    return await close_matching(context, await _body(request, MatchingClose), user)


async def deny_request(context: Context, request: Request, user: str) -> Response:
    """`POST /admin/denials`: the body is a `DenyRequest`."""
    return await deny(context, await _body(request, DenyRequest), user)


async def allow_request(context: Context, request: Request, user: str) -> Response:
    """`DELETE /admin/denials?kind=…&key=…`, with `invert=true` for an inverted address."""
    return await allow(context, asked_condition(request), user)


def asked_condition(request: Request) -> DenyRequest:
    """Read a condition from the query. Raises `FaultError`."""
    given = request.query_params
    named: dict[str, Any] = {name: given.get(name, "") for name in ("kind", "key")}
    named["invert"] = parameters.boolean("invert", given)
    try:
        return msgspec.convert(named, DenyRequest)
    except msgspec.ValidationError as error:
        raise FaultError(422, str(error)) from None


async def _body(request: Request, kind: type[T]) -> T:
    body = bytearray()
    async with contextlib.aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY:
                raise FaultError(413, f"the body is larger than {MAX_BODY >> 10} KiB")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise FaultError(422, str(error)[:500]) from None
    except (ValueError, RecursionError) as error:
        raise FaultError(400, f"the body is not JSON: {str(error)[:200]}") from None


async def deny(context: Context, asked: DenyRequest, user: str) -> Response:
    """Add one condition to the file; the response tells whether it is in force already."""
    made = _condition(asked)
    await _change(context, lambda path: denial_file.add(path, made))
    log.warning("%s denies %s", user, made)
    return json_response({"in_force": await _settled(context, made, wanted=True)}, 201)


async def allow(context: Context, asked: DenyRequest, user: str) -> Response:
    """Remove one condition from the file."""
    made = _condition(asked)
    if not await _change(context, lambda path: denial_file.remove(path, made.meaning)):
        raise FaultError(404, "the file has no such condition")
    log.warning("%s no longer denies %s", user, made)
    return json_response({"in_force": not await _settled(context, made, wanted=False)})


def _condition(asked: DenyRequest) -> Condition:
    if asked.invert and asked.kind != "address":
        raise FaultError(422, "only addresses can be inverted")
    try:
        return condition(asked.kind, asked.key, invert=asked.invert, reason=asked.reason)
    except ValueError as error:
        raise FaultError(422, "; ".join(map(str, error.args))) from None


async def _change(context: Context, work: Callable[[Path], bool | None]) -> bool:
    """Change the file in a thread. Returns whether there was something to change."""
    path = context.denials
    if path is None:
        raise FaultError(409, "there is no file of deny conditions (denials)")
    try:
        return await trio.to_thread.run_sync(work, path) is not False
    except denial_file.UnwritableError as error:
        raise FaultError(409, str(error)) from None
    except ValueError as error:
        raise FaultError(422, str(error)) from None


async def _settled(context: Context, made: Condition, *, wanted: bool) -> bool:
    """Wait until this worker has read the file; the others read it at the same time."""
    blocklist = context.blocklist
    with trio.move_on_after(IN_FORCE):
        while (made.meaning in _meanings(context)) is not wanted:
            await blocklist.changed.wait()
    return (made.meaning in _meanings(context)) is wanted


def _meanings(context: Context) -> set[tuple[Kind, str, bool]]:
    return {one.meaning for one in context.blocklist.of(FILE).conditions}
