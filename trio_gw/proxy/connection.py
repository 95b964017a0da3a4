"""The life of one connection, phase by phase (docs/life-of-a-connection.md).

Each phase is a method that returns a value or raises `Refusal`. At the end of every connection one
line is logged: client, target, last phase, which side ended it, and why.
"""

from __future__ import annotations

import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from trio_gw.errors import Ending, Phase, Refusal, Side
from trio_gw.guard.refusals import api_blocked
from trio_gw.proxy import (
    deny_check,
    forwarding,
    no_route,
    path_confusion,
    plain_http,
    refusals,
    upstream_request,
)
from trio_gw.proxy.access_log import record
from trio_gw.proxy.admission import admit, check_certificate
from trio_gw.proxy.client_disconnect import ClientGoneError, ClientWatch
from trio_gw.proxy.client_request import ClientRequest
from trio_gw.proxy.responses import Responder
from trio_gw.relay import messages
from trio_gw.relay.lane import Lane
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.plain import Discarding, send
from trio_gw.relay.pump import Relayed
from trio_gw.telemetry import logs
from trio_gw.wire import exchange, handshake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

    from trio_gw.config.api import Cluster, Endpoint
    from trio_gw.proxy.admission import Admitted
    from trio_gw.proxy.services import Services
    from trio_gw.proxy.sessions import Session
    from trio_gw.proxy.upstream import Backend, UpstreamRequest
    from trio_gw.routing.route import Match, Route
    from trio_gw.wire.exchange import RequestBody
    from trio_gw.wire.head import RequestHead

log = logging.getLogger("trio_gw.connection")

ALLOW = ((b"allow", b"OPTIONS, GET"),)


class _Joined(NamedTuple):
    """A client and a backend after a successful upgrade, and the driver that relays between them.

    Nothing else of the handshake is kept: connections may be idle for days, and objects of earlier
    phases would stay in memory as long.
    """

    backend: trio.abc.Stream
    publish: Lane
    subscribe: Lane
    early: tuple[bytes, bytes]
    carry: Callable[..., Awaitable[Ending]]


class _Connection:
    """One client connection."""

    def __init__(
        self, services: Services, session: Session, stream: trio.abc.Stream, *, tls: bool
    ) -> None:
        self.services = services
        self.session = session
        self.stream = stream
        self.tls = tls
        self.request = ClientRequest(services, session, stream, tls=tls)
        self.responder = Responder(stream, session, services.pending)

    async def serve(self, peer: str) -> None:
        """Run the connection. A bug ends only this connection."""
        session = self.session
        try:
            if (joined := await self.join()) is not None:
                await self._relay(joined)
        except Exception:
            # A bug: log it with its traceback and end this connection only.
            error_id = secrets.token_hex(4)
            log.exception("error %s while serving %s", error_id, peer)
            session.ending = Ending(Side.GATEWAY, 0, f"internal error {error_id}")
            if session.phase is not Phase.RELAY:
                await self.responder.refuse(refusals.internal_error(error_id))

    async def join(self) -> _Joined | None:
        """Run the phases before the relay. Returns None if the connection ends before it."""
        session = self.session
        try:
            head = await self.request.head()
            session.request = f"{head.method} {head.path}"
            if own := handshake.request_id(head):
                session.request_id = own.decode()
                logs.request_id.set(session.request_id)
            if self.services.tracing_observer is not None:
                self.services.tracing_observer.begin(session, head)
            session.info = forwarding.request_info(head, session.peer, self.services.trusted)
            if (match := await self._find_route(head)) is None:
                return None
            self.services.memory.check()
            body = None
            if match.route.topic.plain_http and exchange.is_plain_http(head):
                self.responder.head_only = head.method == "HEAD"
                body, upgrade = self.request.plain_body(head), exchange.NO_UPGRADE
            else:
                upgrade = handshake.check_request(head)
            if not self.services.cors.of(match.route.api.cors).admits(head):
                raise refusals.foreign_origin()
            session.enter(Phase.AUTHENTICATE)
            if self.services.blocklist.current:
                deny_check.check(self.services.blocklist, session)
            session.certificate = check_certificate(match.route, session.certificate, tls=self.tls)
            if match.route.topic.inspection is not None:
                # Message mode must be able to read every frame.
                upgrade = structs.replace(upgrade, extensions=())
            address = session.info.address
            admitted = await admit(self.services, match.route, head, upgrade, address)
            session.caller, session.admitted_at = admitted.caller, time.time()
            if self.services.blocklist.current:
                deny_check.check(self.services.blocklist, session)
            return await self._enter(match, admitted, body)
        except ClientGoneError:
            session.ending = Ending(Side.CLIENT, 0, "hung up")
        except Refusal as refusal:
            session.status, session.code = refusal.status, refusal.code
            session.limit = refusal.limit
            session.ending = Ending(refusal.by, 0, refusal.why)
            await self.responder.refuse(refusal)
        return None

    # -- route -----------------------------------------------------------------------------

    async def _find_route(self, head: RequestHead) -> Match | None:
        """Find the route. Requests that need no backend are answered here; then return None."""
        session, services = self.session, self.services
        session.enter(Phase.ROUTE)
        if (
            services.builtin.serves(head.path)
            and not handshake.is_upgrade(head)
            and self._is_system_host(head)
        ):
            client, self.responder.extra = session.info.address, services.builtin.cors(head)
            scheme, port = ("https" if self.tls else "http"), self.request.port
            secure = self.tls or forwarding.is_private(head, session.peer, services.trusted)
            status, headers, body = await services.builtin.answer(
                head, self.request.body, client, scheme=scheme, port=port, secure=secure
            )
            await self.responder.send(status, headers, body, head_only=head.method == "HEAD")
            return None
        table = services.live.table
        match = table.match(head.host, head.path)
        if match is None:
            if services.builtin.starting:
                raise refusals.starting()
            raise no_route.refusal(table, head.host, head.path)
        session.route = match.route
        cors = services.cors.of(match.route.api.cors)
        self.responder.extra = cors.headers(head)
        if head.method == "OPTIONS":
            preflight = cors.preflight(head)
            if preflight is not None:
                await self.responder.send(200, preflight, b"")
            else:
                allow = exchange.ALLOW if match.route.topic.plain_http else ALLOW
                await self.responder.send(204, allow, b"")
            return None
        if match.route.blocked:
            raise api_blocked()
        path_confusion.check(head.path, head.query, match)
        return match

    def _is_system_host(self, head: RequestHead) -> bool:
        # Load balancers that send HTTP/1.0 health checks send no Host.
        return not self.services.settings.strict_vhosts or head.host in ("localhost", "")

    # -- admit -----------------------------------------------------------------------------

    async def _enter(
        self, match: Match, admitted: Admitted, body: RequestBody | None
    ) -> _Joined | None:
        """Apply the caps on connections, and create the limiters of this connection."""
        session, limiter_factory = self.session, self.services.limiter_factory
        throttling = self.services.throttling
        session.enter(Phase.ADMIT)
        key = match.route, admitted.caller, session.info.address
        session.limiters = limiters = limiter_factory.limiters(
            *key, suspendable=throttling is not None
        )
        if throttling is not None:
            request = admitted.head, admitted.drop
            throttling.admit(session, match.route, admitted.caller, *request)
        if limiters is not None and limiters.drops:
            # Compression needs all earlier messages, so no message may be dropped.
            upgrade = structs.replace(admitted.upgrade, extensions=())
            admitted = structs.replace(admitted, upgrade=upgrade)
        session.caps_taken = limiter_factory.take_caps(*key)
        if body is not None:
            if throttling is not None:
                throttling.check_plain(session)
            plain_http.count(limiters)
            plain = plain_http.PlainHttp(self.services, session, self.stream, self.responder, body)
            await plain.run(*self._choose(match, admitted))
            return None
        session.rate_limits = limiter_factory.rate_limits(limiters)
        return await self._open(match, admitted)

    # -- dial, upgrade, relay --------------------------------------------------------------

    def _choose(
        self, match: Match, admitted: Admitted
    ) -> tuple[Cluster, Callable[[Endpoint], UpstreamRequest]]:
        """Choose the cluster, and the function that builds the request for each endpoint."""
        services, session, route = self.services, self.session, match.route
        cluster = route.cluster(admitted.kind)
        assert cluster is not None

        def build_request(endpoint: Endpoint) -> UpstreamRequest:
            target = route.backend_target(match, endpoint, admitted.head.query)
            session.backend, session.backend_path = endpoint.origin, target.partition("?")[0]
            headers = upstream_request.headers(
                services, session, admitted, cluster, endpoint, tls=self.tls
            )
            return target, headers

        # A path that cannot be mapped is refused before a backend is contacted.
        route.backend_target(match, cluster.endpoints[0], admitted.head.query)
        session.enter(Phase.DIAL)
        return cluster, build_request

    async def _open(self, match: Match, admitted: Admitted) -> _Joined | None:
        services, session = self.services, self.session
        cluster, build_request = self._choose(match, admitted)
        client = ClientWatch(self.stream, services.waits)
        backend = await services.upstream.join(cluster, build_request, admitted.upgrade, client)
        async with Discarding(backend.stream) as held:
            session.enter(Phase.UPGRADE)
            if (joined := await self._upgrade(backend, match.route, admitted)) is not None:
                held.keep()
        return joined

    async def _upgrade(self, backend: Backend, route: Route, admitted: Admitted) -> _Joined | None:
        """Pass the backend's response to the client. Returns None if the backend refused."""
        session, services = self.session, self.services
        session.status = backend.answer.status
        if backend.accepted is None:
            session.ending = Ending(Side.BACKEND, 0, f"backend answered {session.status}")
            with self.responder.pending():
                await services.upstream.pass_refusal(backend, self.stream, self.responder.headers)
                await self.responder.linger()
            return None
        services.upstream.warn_of_case(route.api.id, route.api.title, backend.accepted)
        chosen = admitted.chosen(backend.accepted.protocol)
        extra = (*chosen, *route.notice, *self.responder.headers)
        try:
            await send(self.stream, handshake.client_response(backend.answer, extra))
        except BROKEN as error:
            raise ClientGoneError from error
        rsv, most = backend.accepted.rsv, services.limiter_factory.most(route)
        publish = Lane(masked=True, rsv=rsv, most=most)
        subscribe = Lane(masked=False, rsv=rsv, most=most)
        carry: Callable[..., Awaitable[Ending]] = services.tunnels.carry
        if session.rate_limits:
            carry = partial(carry, rate_limits=session.rate_limits)
        if (look := route.topic.inspection) is not None:
            carry = partial(
                messages.carry,
                limit=look.max_message,
                session=session,
                rate_limits=session.rate_limits,
            )
        early = self.request.leftover, backend.early
        return _Joined(backend.stream, publish, subscribe, early, carry)

    async def _relay(self, joined: _Joined) -> None:
        backend, publish, subscribe, early, carry = joined
        del joined
        async with Discarding(backend):
            session = self.session
            session.relay(publish, subscribe)
            for observer in self.services.observers:
                observer.opened(session)
            session.phase_ends = []  # a new list: observers may still hold the old one
            del self.request
            session.ending = await carry(
                Relayed(self.stream, backend, publish, subscribe),
                early=early,
                close_timeout=self.services.settings.timeouts.close,
            )


async def serve(
    services: Services, stream: trio.abc.Stream, peer: str, *, tls: bool = False
) -> None:
    """Serve one accepted connection until it ends. Never raises, except for cancellation.

    With `tls` the stream is a `SecureStream` before its handshake. The stream is closed on return.
    """
    with services.sessions.open(peer) as session:
        logs.request_id.set(session.request_id)
        connection = _Connection(services, session, stream, tls=tls)
        try:
            async with Discarding(stream):
                await connection.serve(peer)
        finally:
            services.limiter_factory.release_caps(session.caps_taken)
            if services.throttling is not None and session.throttle is not None:
                services.throttling.release(session.throttle)
            for observer in services.observers:
                observer.ended(session)
            record(session, services.settings.log.access)
