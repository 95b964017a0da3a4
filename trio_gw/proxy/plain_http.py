"""Proxies plain HTTP on a topic with `x-trio-gw-plain-http`: one request and its response.

Called by `connection` after the same phases as for a handshake. Both directions run concurrently,
because a backend may respond before it has received the whole body. Each direction sends a chunk
before it reads the next one, so a slow reader slows down its sender, and at most one chunk is in
memory.

Until the client has received the head of a response, errors are reported as for a handshake. After
that its connection is closed early, so that it does not mistake a part for the whole.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Ending, Phase, Refusal, Side
from trio_gw.proxy import refusals
from trio_gw.proxy.client_disconnect import ClientGoneError, ClientWatch
from trio_gw.relay.lingering_close import BROKEN, wait_hangup
from trio_gw.relay.plain import Discarding, receive
from trio_gw.relay.sizes import CHUNK
from trio_gw.wire.exchange import CONTINUE, Exchange
from trio_gw.wire.response import backend_closed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.config.api import Cluster, Endpoint
    from trio_gw.guard.rate_limits import SessionLimiters
    from trio_gw.proxy.responses import Responder
    from trio_gw.proxy.services import Services
    from trio_gw.proxy.sessions import Session
    from trio_gw.proxy.upstream import UpstreamRequest
    from trio_gw.wire.exchange import RequestBody
    from trio_gw.wire.response import BackendResponse


def count(limiters: SessionLimiters | None) -> None:
    """Count the request as one message from the client, and the response as one from the backend.

    Raises `Refusal` (429) if a message limit is used up.
    """
    if limiters is None:
        return
    now = time.time()
    for limiter in (limiters.publish, limiters.subscribe):
        if (reached := limiter.take(0, now)) is not None:
            raise refusals.too_many_messages(max(reached.until - now, 0))


class PlainHttp:
    """One request of one client."""

    def __init__(
        self,
        services: Services,
        session: Session,
        stream: trio.abc.Stream,
        responder: Responder,
        body: RequestBody,
    ) -> None:
        self._services = services
        self._session = session
        self._stream = stream
        self._responder = responder
        self._body = body
        self._exchange = Exchange(body.method)
        self._answering = trio.CancelScope()
        self._working = trio.CancelScope()
        self._failure: Refusal | ClientGoneError | None = None
        self._begun = False  # the client may have received a part of the response
        self._finishing = False  # the whole response is known

    async def run(
        self, cluster: Cluster, build_request: Callable[[Endpoint], UpstreamRequest]
    ) -> None:
        """Send the request to one of the backends, and the response to the client.

        `build_request` returns request target and headers for an endpoint. Raises `Refusal` or
        `ClientGoneError` as long as the client has received nothing of a response.
        """
        services, session = self._services, self._session
        most = services.settings.timeouts.handshake
        seconds = min(cluster.timeout or most, most)  # until the response begins
        first = self._body.begin()
        client = ClientWatch(self._stream, services.waits)
        endpoint, backend, request = await services.upstream.reach(cluster, build_request, client)
        async with Discarding(backend):
            session.enter(Phase.UPGRADE)
            head = self._exchange.request(*request, self._body.framing)
            session.abort = self._abort
            try:
                if session.end_requested is not None:
                    self._abort(session.end_requested[1])
                if self._body.expects_continue and not first[1]:
                    await self._give(CONTINUE)
                await self._both_ways(backend, head, first, seconds)
            finally:
                session.abort = None
        failure = self._failure
        if isinstance(failure, Refusal) and failure.by is Side.BACKEND:
            services.upstream.failed(cluster, endpoint)
        elif session.status:
            services.upstream.connected(cluster, endpoint)
        if failure is not None:
            self._report(failure)
        elif session.status >= 400:
            session.ending = Ending(Side.BACKEND, 0, f"backend answered {session.status}")
        if failure is None:
            with self._responder.pending():
                await self._responder.linger()

    def _report(self, failure: Refusal | ClientGoneError) -> None:
        """Raise a failure, or record it if the response has already begun."""
        if not self._begun:
            raise failure
        if isinstance(failure, ClientGoneError):
            self._session.ending = Ending(Side.CLIENT, 0, "hung up")
        else:
            self._session.code = failure.code
            self._session.ending = Ending(failure.by, 0, failure.why)

    async def _both_ways(
        self, backend: trio.abc.Stream, head: bytes, first: tuple[bytes, bool], seconds: float
    ) -> None:
        lifetime = self._services.settings.timeouts.lifetime
        with trio.move_on_after(lifetime) as life:
            async with trio.open_nursery() as nursery:
                with self._working:
                    nursery.start_soon(self._run_beside, self._watch)
                    nursery.start_soon(self._run_beside, self._ask, backend, head, first, seconds)
                    try:
                        await self._answer(backend, seconds)
                    except (Refusal, ClientGoneError) as failure:
                        self._fail(failure)
                nursery.cancel_scope.cancel()
        if life.cancelled_caught and self._failure is None:
            self._failure = refusals.ended(f"open for {lifetime:g} s")

    async def _run_beside(self, act: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run a task beside the response. Failures after the whole response do not matter."""
        try:
            await act(*arguments)
        except (Refusal, ClientGoneError) as failure:
            if not self._finishing:
                self._fail(failure)

    def _fail(self, failure: Refusal | ClientGoneError) -> None:
        """Stop both directions. The first failure is the one that is reported."""
        if self._failure is None:
            self._failure = failure
        self._working.cancel()

    def _abort(self, reason: str) -> None:
        """End the exchange from outside."""
        self._fail(refusals.ended(reason))

    async def _watch(self) -> None:
        await wait_hangup(self._stream)
        raise ClientGoneError

    # -- request -----------------------------------------------------------------------------

    async def _ask(
        self, backend: trio.abc.Stream, head: bytes, first: tuple[bytes, bool], seconds: float
    ) -> None:
        """Send the request; `first` is the part of the body that arrived with the head."""
        exchange, body = self._exchange, self._body
        piece, whole = first
        try:
            await self._send(backend, head + exchange.piece(piece))
            while not whole:
                self._count_octets(len(piece), publish=True)
                piece, whole = body.feed(await self._receive())
                await self._send(backend, exchange.piece(piece))
            self._count_octets(len(piece), publish=True)
            if end := exchange.end():
                await self._send(backend, end)
        except BROKEN:
            pass  # it may have responded before it closed the connection
        self._answering.deadline = trio.current_time() + seconds

    async def _send(self, backend: trio.abc.Stream, data: bytes) -> None:
        seconds = self._services.settings.timeouts.handshake
        with trio.move_on_after(seconds) as sending:
            await backend.send_all(data)
        if sending.cancelled_caught:
            raise refusals.no_answer(seconds)

    async def _receive(self) -> bytes:
        """Receive a chunk from the client."""
        seconds = self._services.settings.timeouts.handshake
        with trio.move_on_after(seconds):
            try:
                data = await receive(self._stream, CHUNK)
            except BROKEN as error:
                raise ClientGoneError from error
            if not data:
                raise ClientGoneError
            return data
        raise refusals.too_slow("body", seconds)

    # -- response -----------------------------------------------------------------------------

    async def _answer(self, backend: trio.abc.Stream, seconds: float) -> None:
        exchange, session = self._exchange, self._session
        answer = await self._head(backend, seconds)
        session.status, self._begun = answer.status, True
        notice = session.route.notice if session.route is not None else ()
        head = exchange.head(answer, (*notice, *self._responder.headers))
        piece, whole = exchange.read_body()
        idle = self._services.settings.timeouts.idle
        while True:
            self._finishing = whole
            if head or piece:
                await self._give(head + piece)
            self._count_octets(len(piece), publish=False)
            if whole:
                return
            head = b""
            with trio.move_on_after(idle) as pending:
                try:
                    data = await backend.receive_some(CHUNK)
                except BROKEN as error:
                    raise backend_closed("The backend reset the connection") from error
            if pending.cancelled_caught:
                raise refusals.no_answer(idle)
            piece, whole = exchange.feed_body(bytes(data))

    async def _head(self, backend: trio.abc.Stream, seconds: float) -> BackendResponse:
        with self._answering:
            try:
                while True:
                    data = await backend.receive_some(CHUNK)
                    if (answer := self._exchange.feed(bytes(data))) is not None:
                        return answer
            except BROKEN as error:
                raise backend_closed("The backend reset the connection") from error
        raise refusals.no_answer(seconds)

    async def _give(self, data: bytes) -> None:
        """Send data to the client; fails if the client does not read."""
        idle = self._services.settings.timeouts.idle
        with trio.move_on_after(idle) as sending:
            try:
                await self._stream.send_all(data)
            except BROKEN as error:
                raise ClientGoneError from error
        if sending.cancelled_caught:
            raise refusals.not_reading(idle)

    def _count_octets(self, octets: int, *, publish: bool) -> None:
        if octets and (limiters := self._session.limiters) is not None:
            limiter = limiters.publish if publish else limiters.subscribe
            limiter.add(octets, time.time())
