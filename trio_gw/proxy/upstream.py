"""The backend's side of an upgrade: dial, TLS, ask, judge.

Failures become `Refusal`s with the codes of the reference's router (spec: routing §9); their
bodies never name the backend, the log does.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.proxy import refusals
from trio_gw.relay.pump import BROKEN, CHUNK
from trio_gw.wire.answer import BackendAnswer, ResponseReader, gone_backend
from trio_gw.wire.handshake import Accepted, end_to_end, judge_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trio_gw.config.api import Endpoint
    from trio_gw.wire.handshake import Upgrade


class Joined(NamedTuple):
    """A backend that agreed to the upgrade. `early` holds bytes that came right behind its 101."""

    answer: BackendAnswer
    accepted: Accepted
    early: bytes


class RefusedError(Exception):
    """The backend answered the upgrade with something else than 101; its body is yet to come."""

    def __init__(self, answer: BackendAnswer, reader: ResponseReader) -> None:
        self.answer = answer
        self.reader = reader
        super().__init__(answer.status)


class Upstream:
    """Dials endpoints. One per process; holds what all connections share."""

    def __init__(self, *, connect_timeout: float, handshake_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._handshake_timeout = handshake_timeout
        self._tls = ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])

    @contextlib.asynccontextmanager
    async def dial(self, endpoint: Endpoint) -> AsyncIterator[trio.abc.Stream]:
        """Connect, over TLS if the endpoint asks for it, trying all its addresses.

        Raises `Refusal` 503 (spec: routing §9, UF) when that fails or takes too long. The stream
        is closed when the context ends.
        """
        with trio.move_on_after(self._connect_timeout) as scope:
            try:
                stream: trio.abc.Stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            except OSError as error:
                raise refusals.unreachable(f"{endpoint}: {error.strerror or error}") from None
            try:
                if endpoint.scheme == "wss":
                    tls = trio.SSLStream(
                        stream,
                        self._tls,
                        server_hostname=endpoint.host,
                        https_compatible=True,
                    )
                    stream = tls
                    await tls.do_handshake()
            except BROKEN as error:
                await trio.aclose_forcefully(stream)
                raise refusals.unreachable(f"{endpoint}: TLS: {error.__cause__ or error}") from None
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        if scope.cancelled_caught:
            raise refusals.unreachable(
                f"{endpoint}: no connection within {self._connect_timeout:g} s"
            )
        try:
            yield stream
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def upgrade(
        self,
        stream: trio.abc.Stream,
        target: str,
        headers: Sequence[tuple[bytes, bytes]],
        upgrade: Upgrade,
    ) -> Joined:
        """Ask for the upgrade and judge the answer.

        Raises `RefusedError` for any answer but 101, `Refusal` 502 for an answer that is invalid,
        503 when the backend goes away, 504 when it takes too long (UPE, UC, UT).
        """
        reader = ResponseReader()
        with trio.move_on_after(self._handshake_timeout) as scope:
            try:
                await stream.send_all(reader.request(target, headers))
                answer = None
                while answer is None:
                    answer = reader.feed(bytes(await stream.receive_some(CHUNK)))
            except BROKEN as error:
                raise gone_backend("The backend reset the connection") from error
        if scope.cancelled_caught:
            raise refusals.no_answer(self._handshake_timeout)
        assert answer is not None
        if answer.status != 101:
            raise RefusedError(answer, reader)
        return Joined(answer, judge_answer(upgrade, answer), reader.leftover)

    async def pass_refusal(
        self, refused: RefusedError, backend: trio.abc.Stream, client: trio.abc.Stream
    ) -> None:
        """Hand a backend's refusal to the client: status, headers and body, as it came.

        The client's connection is of no further use: whatever it sends next must never reach
        the backend.
        """
        answer, reader = refused.answer, refused.reader
        lines = [b"HTTP/1.1 %d %s" % (answer.status, answer.reason)]
        lines += [name + b": " + value for name, value in end_to_end(answer)]
        lengths = [value for name, value in answer.headers if name == b"content-length"]
        if lengths and not any(name == b"transfer-encoding" for name, _ in answer.headers):
            lines.append(b"content-length: " + lengths[0])
        lines.append(b"connection: close")
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        with trio.move_on_after(self._handshake_timeout), contextlib.suppress(*BROKEN):
            await client.send_all(head)
            body, whole = reader.read_body()
            while True:
                if body:
                    await client.send_all(body)
                if whole:
                    return
                body, whole = reader.feed_body(bytes(await backend.receive_some(CHUNK)))
