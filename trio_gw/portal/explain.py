"""Goes through a handshake as the gateway would, and says which check passes and which does not.

It runs the phases head, route, authenticate and admit with the gateway's own functions, and dials
nobody. Nothing is counted: the places that it takes are given back at once. spec: portal §3.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from trio_gw.admin.json_responses import FaultError
from trio_gw.errors import Refusal
from trio_gw.guard.refusals import api_blocked, blocked
from trio_gw.portal.attempt_request import Credentials, RequestFaultError, build
from trio_gw.portal.console_messages import AttemptKey, ConnectRequest, Fields, Text
from trio_gw.portal.explained_refusals import explain_refusal
from trio_gw.portal.token_steps import Step, passed_steps, token_steps
from trio_gw.proxy import no_route, path_confusion, refusals
from trio_gw.proxy.admission import admit, check_certificate
from trio_gw.wire import handshake
from trio_gw.wire.http import RequestReader

if TYPE_CHECKING:
    from trio_gw.guard.caller import Caller
    from trio_gw.proxy.services import Services
    from trio_gw.routing.route import Match, Route
    from trio_gw.wire.head import RequestHead

MAX_TOKEN = 32768  # characters, as far as the console takes them


class ExplainRequest(msgspec.Struct):
    """The handshake to explain. `path` may have a query; `token` may begin with `Bearer`."""

    path: Text
    host: Annotated[str, Meta(max_length=300)] = "localhost"
    token: Annotated[str, Meta(max_length=MAX_TOKEN)] = ""
    api_key: Annotated[str, Meta(max_length=MAX_TOKEN)] = ""
    protocols: Annotated[tuple[Text, ...], Meta(max_length=32)] = ()
    headers: Fields = ()
    tls: bool = False


class Explained(msgspec.Struct, frozen=True):
    """The status that a client would get, and the steps. 101: all but the backend agrees."""

    status: int
    steps: list[Step]


async def explain(services: Services, asked: ExplainRequest, address: str) -> Explained:
    """Explain a handshake of a client with this address.

    Raises `FaultError` 422 if no client could send it.
    """
    steps: list[Step] = []
    try:
        head = _head(services, asked, steps)
        match = _route(services, head, steps)
        caller = await _authenticate(services, asked, head, match.route, address, steps)
        _admit(services, head, match, caller, address, steps)
    except _RefusedError as error:
        steps += error.steps
        return Explained(error.status, steps)
    return Explained(101, [*steps, Step("backend", None, "not asked: an explanation dials nobody")])


async def explain_json(services: Services, asked: bytes, address: str) -> object:
    """Explain a handshake that is described in JSON. Raises `FaultError` 400 or 422."""
    try:
        wanted = msgspec.json.decode(asked, type=ExplainRequest)
    except msgspec.ValidationError as error:
        raise FaultError(422, str(error)[:500]) from None
    except (ValueError, RecursionError):
        raise FaultError(400, "the body is not JSON") from None
    return msgspec.to_builtins(await explain(services, wanted, address))


class _RefusedError(Exception):
    def __init__(self, step: str, refusal: Refusal, more: list[Step] | None = None) -> None:
        self.status = refusal.status
        self.steps = more if more is not None else [_failure(step, refusal)]
        super().__init__(step)


def _failure(step: str, refusal: Refusal) -> Step:
    """Describe a refusal in the words that the console uses for its answer."""
    found = explain_refusal(refusal.status, refusal.body)
    what = f"{refusal.status}: {found.what}"
    if refusal.why and refusal.why not in found.what:
        what = f"{what} ({refusal.why})"
    return Step(step, False, what, found.advice, refusal.code)


def _head(services: Services, asked: ExplainRequest, steps: list[Step]) -> RequestHead:
    """Make the request that a client would send, and read it as the gateway does."""
    path, _, query = asked.path.partition("?")
    key = AttemptKey()
    if token := asked.token.strip():
        scheme, _, rest = token.partition(" ")
        key = AttemptKey("token", rest.strip() if scheme.lower() == "bearer" else token)
    elif asked.api_key.strip():
        key = AttemptKey("api-key", asked.api_key.strip())
    wanted = ConnectRequest(path, asked.host, query, key, asked.protocols, asked.headers)
    credentials = Credentials(None, services.live, services.topic_policies, "")
    try:
        data = build(wanted, credentials).data
    except RequestFaultError as error:
        raise FaultError(422, str(error)) from None
    try:
        head = RequestReader(services.limiter_factory.bounds).feed(data)
        assert head is not None
        handshake.check_request(head)
    except Refusal as refusal:
        raise _RefusedError("request", refusal) from None
    steps.append(Step("request", True, f"a WebSocket handshake for {head.host}{head.path}"))
    return head


def _route(services: Services, head: RequestHead, steps: list[Step]) -> Match:
    """Find the topic."""
    table = services.live.table
    match = table.match(head.host, head.path)
    try:
        if match is None:
            if services.builtin.starting:
                raise refusals.starting()
            raise no_route.refusal(table, head.host, head.path)
        api, topic = match.route.api, match.route.topic
        if match.route.blocked:
            raise api_blocked()
        path_confusion.check(head.path, head.query, match)
        services.memory.check()
        if not services.cors.of(api.cors).admits(head):
            raise refusals.foreign_origin()
    except Refusal as refusal:
        raise _RefusedError("route", refusal) from None
    steps.append(Step("route", True, f"topic {topic.name} of {api.title} ({api.base_path})"))
    return match


async def _authenticate(
    services: Services,
    asked: ExplainRequest,
    head: RequestHead,
    route: Route,
    address: str,
    steps: list[Step],
) -> Caller:
    """Check address, certificate and credential."""
    _check_denied(services, route, address, None)
    steps.append(Step("address", True, f"no deny condition applies to {address}"))
    try:
        check_certificate(route, None, tls=asked.tls)
    except Refusal as refusal:
        raise _RefusedError("certificate", refusal) from None
    policy = services.topic_policies.of(route)
    token = asked.token.strip().removeprefix("Bearer ").strip().encode()
    wanted = policy.demand.scopes or ()
    try:
        admitted = await admit(services, route, head, handshake.check_request(head), address)
    except Refusal as refusal:
        failure = _failure("credential", refusal)
        raise _RefusedError("", refusal, token_steps(token, refusal, failure, wanted)) from None
    caller = admitted.caller
    if caller.anonymous:
        steps.append(Step("credential", True, "the topic is open: it needs none"))
    elif token:
        steps.extend(passed_steps(token, wanted))
    else:
        steps.append(Step("credential", True, "the credential is valid"))
    _check_denied(services, route, address, caller)
    return caller


def _check_denied(services: Services, route: Route, address: str, caller: Caller | None) -> None:
    if services.blocklist.current:
        found = services.blocklist.find(route.api, address, caller)
        if found is not None:
            step = "address" if caller is None else "caller"
            raise _RefusedError(step, blocked(f"{found} is denied"))


def _admit(
    services: Services,
    head: RequestHead,
    match: Match,
    caller: Caller,
    address: str,
    steps: list[Step],
) -> None:
    """Check the caps on connections, and whether the path can be mapped."""
    factory, route = services.limiter_factory, match.route
    try:
        factory.release_caps(factory.take_caps(route, caller, address))
        for cluster in (route.api.production, route.api.sandbox):
            if cluster is not None:
                route.backend_target(match, cluster.endpoints[0], head.query)
                break
    except Refusal as refusal:
        raise _RefusedError("limits", refusal) from None
    base = f"{route.api.base_path}:{route.api.version}"
    full = [one for one in factory.full() if base in one.key]
    now = time.time()
    for one in full:
        until = time.strftime("%H:%M:%S UTC", time.gmtime(max(one.until, now)))
        what = f"the {one.level} limit {one.tier.name} is used up: messages wait until {until}"
        steps.append(Step("limits", None, what, "Wait, or ask for a larger tier."))
    if not full:
        steps.append(Step("limits", True, "no limit on connections or messages is reached"))
