"""The upgrade handshake with a backend: choose, connect, request, check, retry if that can help.

Failures become `Refusal`s with the codes of the reference's router (spec: routing §9). A handshake
is retried only before the client has received a response, so never after a 101.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.errors import Refusal, Side
from trio_gw.proxy import refusals
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.plain import Discarding, PlainStream, discard, receive
from trio_gw.relay.sizes import CHUNK
from trio_gw.wire.end_to_end import end_to_end
from trio_gw.wire.handshake import Accepted, check_response
from trio_gw.wire.response import BackendResponse, ResponseReader, backend_closed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_gw.config.api import Cluster, Endpoint
    from trio_gw.config.settings import Retry, Timeouts
    from trio_gw.errors import Headers
    from trio_gw.proxy.balancer import Balancers
    from trio_gw.proxy.client_disconnect import ClientWatch
    from trio_gw.proxy.dial import Dialer
    from trio_gw.wire.handshake import Upgrade

log = logging.getLogger("trio_gw.connection")

UpstreamRequest = tuple[str, "Sequence[tuple[bytes, bytes]]"]  # request target and headers


class Backend(msgspec.Struct, frozen=True):
    """A backend that has responded. `accepted` is None if it refused the upgrade.

    `early` holds bytes that arrived directly after a 101: the first frames.
    """

    endpoint: Endpoint
    stream: trio.abc.Stream
    reader: ResponseReader
    answer: BackendResponse
    accepted: Accepted | None

    @property
    def early(self) -> bytes:
        return self.reader.leftover


class Upstream:
    """Finds a backend for a handshake. One per process; holds what all connections share."""

    def __init__(
        self,
        *,
        dialer: Dialer,
        balancers: Balancers,
        timeouts: Timeouts,
        retry: Retry,
        strict_subprotocols: bool = False,
    ) -> None:
        self.dialer = dialer
        self._balancers = balancers
        self._timeouts = timeouts
        self._retry = retry
        self._strict = strict_subprotocols
        self._warned: set[str] = set()  # ids of APIs

    async def join(
        self,
        cluster: Cluster,
        build_request: Callable[[Endpoint], UpstreamRequest],
        upgrade: Upgrade,
        client: ClientWatch,
    ) -> Backend:
        """Request the upgrade from the cluster's endpoints until one responds or the client
        disconnects.

        `build_request` returns request target and headers for an endpoint. If an endpoint is
        unreachable or closes the connection, the next one is tried. A response with a status in
        `retry.statuses` is retried as often as the cluster allows. Raises `Refusal` if all fail.
        The caller closes the stream.
        """
        balancer = self._balancers.of(cluster)
        all_unhealthy = not balancer.any_healthy
        left = min(cluster.retries, self._retry.limit)
        waiting = balancer.order()
        pause = self._retry.backoff
        failure: Refusal | None = None
        most = self._timeouts.handshake
        while waiting:
            endpoint = waiting.pop(0)
            try:
                request = build_request(endpoint)
                stream = await self._dial(endpoint, 1 + len(waiting), client)
                seconds = min(cluster.timeout or most, most)
                backend = await self._ask(endpoint, stream, request, upgrade, seconds, client)
            except Refusal as refusal:
                if refusal.by is Side.GATEWAY:  # not the fault of the backend
                    raise
                balancer.failed(endpoint)
                failure = refusal
                if refusal.status != 503:  # it was reached, so the next one would not help
                    break
                continue
            balancer.connected(endpoint)
            if backend.accepted is not None or not self._again(backend, left):
                return backend
            await discard(backend.stream)
            left -= 1
            waiting.append(endpoint)
            with client.cancel_on_disconnect():
                await trio.sleep(pause)
            pause *= 2
        assert failure is not None
        if all_unhealthy and failure.status == 503:
            raise refusals.no_healthy_backend(failure.why)
        raise failure

    async def reach(
        self,
        cluster: Cluster,
        build_request: Callable[[Endpoint], UpstreamRequest],
        client: ClientWatch,
    ) -> tuple[Endpoint, trio.abc.Stream, UpstreamRequest]:
        """Connect to the first endpoint of the cluster that accepts; the caller closes the stream.

        For plain HTTP: no bytes have been sent, so it is safe to try the next endpoint. The caller
        reports the outcome (`connected`, `failed`). Raises `Refusal` if no endpoint can be
        connected to.
        """
        balancer = self._balancers.of(cluster)
        all_unhealthy = not balancer.any_healthy
        waiting = balancer.order()
        while True:
            endpoint = waiting.pop(0)
            try:
                request = build_request(endpoint)
                return endpoint, await self._dial(endpoint, 1 + len(waiting), client), request
            except Refusal as refusal:
                if refusal.by is Side.GATEWAY:
                    raise
                balancer.failed(endpoint)
                if waiting:
                    continue
                if all_unhealthy:
                    raise refusals.no_healthy_backend(refusal.why) from None
                raise

    def connected(self, cluster: Cluster, endpoint: Endpoint) -> None:
        """Note that an endpoint has responded."""
        self._balancers.of(cluster).connected(endpoint)

    def failed(self, cluster: Cluster, endpoint: Endpoint) -> None:
        """Note that an endpoint has not responded, or not completely."""
        self._balancers.of(cluster).failed(endpoint)

    def _again(self, backend: Backend, left: int) -> bool:
        return left > 0 and backend.answer.status in self._retry.statuses

    async def _dial(
        self, endpoint: Endpoint, remaining: int, client: ClientWatch
    ) -> trio.abc.Stream:
        """Connect to one endpoint. If others are `remaining`, it gets only its share of the
        timeout.
        """
        started = self.dialer.begin(endpoint)
        if isinstance(started, PlainStream) and endpoint.scheme == "ws":
            return started
        with client.cancel_on_disconnect():
            return await self.dialer.open(endpoint, self._timeouts.connect / remaining, started)

    async def _ask(
        self,
        endpoint: Endpoint,
        stream: trio.abc.Stream,
        asked: UpstreamRequest,
        upgrade: Upgrade,
        seconds: float,
        client: ClientWatch,
    ) -> Backend:
        """Request the upgrade over an open connection; close the connection if there is no
        response.
        """
        reader = ResponseReader()
        request = reader.request(*asked)
        async with Discarding(stream) as held:
            answer = await _exchange(stream, reader, request, seconds, client)
            accepted = None
            if answer.status == 101:
                accepted = check_response(upgrade, answer, strict=self._strict)
            held.keep()
        return Backend(endpoint, stream, reader, answer, accepted)

    def warn_of_case(self, api: str, title: str, accepted: Accepted) -> None:
        """Warn once per API if its backend changes the case of a subprotocol."""
        if accepted.other_case and api not in self._warned:
            self._warned.add(api)
            log.warning(
                "a backend of %s selected the subprotocol %s, which was offered in another case;"
                " some clients reject that: make the backend return the name as it was offered",
                title,
                accepted.protocol,
            )

    async def pass_refusal(
        self, backend: Backend, client: trio.abc.Stream, extra: Headers = ()
    ) -> None:
        """Pass a backend's refusal to the client unchanged: status, headers and body.

        Headers in `extra` replace the backend's headers with the same name.

        The client's connection cannot be used afterwards: what the client sends next must never
        reach the backend.
        """
        answer, reader = backend.answer, backend.reader
        lines = [b"HTTP/1.1 %d %s" % (answer.status, answer.reason)]
        lines += [name + b": " + value for name, value in end_to_end(answer, extra)]
        lengths = [value for name, value in answer.headers if name == b"content-length"]
        if lengths and not any(name == b"transfer-encoding" for name, _ in answer.headers):
            lines.append(b"content-length: " + lengths[0])
        lines.append(b"connection: close")
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        with trio.move_on_after(self._timeouts.handshake), contextlib.suppress(*BROKEN):
            await client.send_all(head)
            body, whole = reader.read_body()
            while True:
                if body:
                    await client.send_all(body)
                if whole:
                    return
                body, whole = reader.feed_body(bytes(await backend.stream.receive_some(CHUNK)))


async def _exchange(
    stream: trio.abc.Stream,
    reader: ResponseReader,
    request: bytes,
    seconds: float,
    client: ClientWatch,
) -> BackendResponse:
    """Send the upgrade request and read the head of the response within `seconds`.

    Raises `Refusal`: 502 if the response is not HTTP, 503 if the backend closes the connection, 504
    after the timeout (UPE, UC, UT).
    """
    due = trio.current_time() + seconds
    try:
        if isinstance(stream, PlainStream):
            sent = stream.send_now(request)
            if sent < len(request):
                with client.cancel_on_disconnect(), trio.move_on_at(due):
                    await stream.send_all(request[sent:])
            while (data := await client.receive(stream, due)) is not None:
                if (answer := reader.feed(data)) is not None:
                    return answer
        else:
            with client.cancel_on_disconnect(), trio.move_on_at(due):
                await stream.send_all(request)
                while (answer := reader.feed(await receive(stream))) is None:
                    pass
                return answer
    except BROKEN as error:
        raise backend_closed("The backend reset the connection") from error
    raise refusals.no_answer(seconds)
