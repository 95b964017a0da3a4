"""The backend's side of an upgrade: choose, dial, ask, judge, and try the next if that helps.

Failures become `Refusal`s with the codes of the reference's router (spec: routing §9). A
handshake is tried again only while the client has not been answered: never after a 101.
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
from trio_gw.wire.handshake import Accepted, check_response, end_to_end
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

Question = tuple[str, "Sequence[tuple[bytes, bytes]]"]  # request target and headers


class Backend(msgspec.Struct, frozen=True):
    """A backend that has answered. `accepted` is None when it refused the upgrade.

    `early` holds bytes that came right behind a 101: its first frames.
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
        self._dialer = dialer
        self._balancers = balancers
        self._timeouts = timeouts
        self._retry = retry
        self._strict = strict_subprotocols
        self._warned: set[str] = set()  # ids of APIs

    async def join(
        self,
        cluster: Cluster,
        ask: Callable[[Endpoint], Question],
        upgrade: Upgrade,
        client: ClientWatch,
    ) -> Backend:
        """Ask the cluster's endpoints for the upgrade until one answers, or the `client` leaves.

        `ask` gives request target and headers for an endpoint. An endpoint that cannot be
        reached or goes away is followed by the next; an answer that asks for it (settings
        `retry.statuses`) is tried again as often as the cluster wants. Raises `Refusal` when all
        fail. The caller closes the stream.
        """
        balancer = self._balancers.of(cluster)
        hopeless = not balancer.any_well
        left = min(cluster.retries, self._retry.limit)
        waiting = balancer.order()
        pause = self._retry.backoff
        failure: Refusal | None = None
        most = self._timeouts.handshake
        while waiting:
            endpoint = waiting.pop(0)
            try:
                question = ask(endpoint)
                stream = await self._dial(endpoint, 1 + len(waiting), client)
                seconds = min(cluster.timeout or most, most)
                backend = await self._ask(endpoint, stream, question, upgrade, seconds, client)
            except Refusal as refusal:
                if refusal.by is Side.GATEWAY:  # it is short of something: no fault of the backend
                    raise
                balancer.failed(endpoint)
                failure = refusal
                if refusal.status != 503:  # it was reached, and what it said is of no use
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
        if hopeless and failure.status == 503:
            raise refusals.no_healthy_backend(failure.why)
        raise failure

    async def reach(
        self, cluster: Cluster, ask: Callable[[Endpoint], Question], client: ClientWatch
    ) -> tuple[Endpoint, trio.abc.Stream, Question]:
        """Connect to the first endpoint of the cluster that can be; the caller closes the stream.

        For plain HTTP: nothing has been sent, so the next endpoint may be tried. The caller tells
        how it went (`connected`, `failed`). Raises `Refusal` when none can be connected to.
        """
        balancer = self._balancers.of(cluster)
        hopeless = not balancer.any_well
        waiting = balancer.order()
        while True:
            endpoint = waiting.pop(0)
            try:
                question = ask(endpoint)
                return endpoint, await self._dial(endpoint, 1 + len(waiting), client), question
            except Refusal as refusal:
                if refusal.by is Side.GATEWAY:
                    raise
                balancer.failed(endpoint)
                if waiting:
                    continue
                if hopeless:
                    raise refusals.no_healthy_backend(refusal.why) from None
                raise

    def connected(self, cluster: Cluster, endpoint: Endpoint) -> None:
        """Note that an endpoint has answered."""
        self._balancers.of(cluster).connected(endpoint)

    def failed(self, cluster: Cluster, endpoint: Endpoint) -> None:
        """Note that an endpoint has not answered, or not to the end."""
        self._balancers.of(cluster).failed(endpoint)

    def _again(self, backend: Backend, left: int) -> bool:
        return left > 0 and backend.answer.status in self._retry.statuses

    async def _dial(
        self, endpoint: Endpoint, remaining: int, client: ClientWatch
    ) -> trio.abc.Stream:
        """Connect to one endpoint. With others `remaining` it gets its share of the time only."""
        started = self._dialer.begin(endpoint)
        if isinstance(started, PlainStream) and endpoint.scheme == "ws":
            return started
        with client.cancel_on_disconnect():
            return await self._dialer.open(endpoint, self._timeouts.connect / remaining, started)

    async def _ask(
        self,
        endpoint: Endpoint,
        stream: trio.abc.Stream,
        question: Question,
        upgrade: Upgrade,
        seconds: float,
        client: ClientWatch,
    ) -> Backend:
        """Ask one endpoint that is connected to; unless it answers, it is hung up on."""
        reader = ResponseReader()
        request = reader.request(*question)
        async with Discarding(stream) as held:
            answer = await _exchange(stream, reader, request, seconds, client)
            accepted = None
            if answer.status == 101:
                accepted = check_response(upgrade, answer, strict=self._strict)
            held.keep()
        return Backend(endpoint, stream, reader, answer, accepted)

    def warn_of_case(self, api: str, title: str, accepted: Accepted) -> None:
        """Say once per API that its backend writes a subprotocol otherwise than clients do."""
        if accepted.other_case and api not in self._warned:
            self._warned.add(api)
            log.warning(
                "a backend of %s chose the subprotocol %s, which was offered in other letters;"
                " some clients refuse that: let the backend answer with the name that was offered",
                title,
                accepted.protocol,
            )

    async def pass_refusal(
        self, backend: Backend, client: trio.abc.Stream, extra: Headers = ()
    ) -> None:
        """Hand a backend's refusal to the client: status, headers and body, as it came.

        Headers in `extra` replace the backend's of the same name.

        The client's connection is of no further use: whatever it sends next must never reach
        the backend.
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
    """Send the upgrade request and read the answer's head within `seconds`.

    Raises `Refusal`: 502 for an answer that is not HTTP, 503 when the backend goes away, 504
    when it takes too long (UPE, UC, UT).
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
