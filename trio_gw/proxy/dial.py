"""Opens one connection to one backend endpoint: TCP to any of its addresses, with TLS if needed.

Used by `upstream` for handshakes and by `health` for checks. Name and address of a backend appear
in the log only, never in a response to a client.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import socket
import ssl
from typing import TYPE_CHECKING

import trio

from trio_gw.proxy import descriptors, refusals
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.plain import PlainStream
from trio_gw.relay.secure import SecureStream

if TYPE_CHECKING:
    from trio_gw.config.api import Endpoint
    from trio_gw.proxy.descriptors import DescriptorBudget

Started = PlainStream | socket.socket | OSError | None

MAX_CONTEXTS = 1000  # cached TLS contexts; far more than a table needs


class Dialer:
    """Opens connections. One per process, because it caches TLS contexts.

    `anchors` are the PEM certificates to trust for endpoints without their own; empty means the
    system's. Assign new ones when they change; new connections use them. `budget` is asked for each
    new descriptor.
    """

    def __init__(
        self, anchors: tuple[str, ...] = (), budget: DescriptorBudget = descriptors.UNLIMITED
    ) -> None:
        self.anchors = anchors
        self._budget = budget
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}

    async def open(
        self, endpoint: Endpoint, seconds: float, started: Started = None
    ) -> trio.abc.Stream:
        """Connect within `seconds`, or complete a `started` connection; the caller closes the
        stream.

        All IPv4 and IPv6 addresses of the name are tried, each a little later than the one before
        (RFC 8305). Raises `Refusal` 503 (spec: routing §9, UF), attributed to the gateway if it has
        no descriptors left.
        """
        with trio.move_on_after(seconds):
            try:
                stream = await self._connect(endpoint.host, endpoint.port, started)
            except OSError as error:
                if descriptors.is_exhausted(error):
                    raise refusals.exhausted("no connection to a backend") from None
                raise refusals.unreachable(f"{endpoint}: {_reason(error)}") from None
            if endpoint.scheme == "ws":
                return stream
            tls: SecureStream | None = None
            try:
                context = self.context(endpoint)
                tls = SecureStream(stream, context, server_hostname=endpoint.host)
                await tls.do_handshake()
            except BROKEN as error:
                await trio.aclose_forcefully(tls or stream)
                raise refusals.unreachable(f"{endpoint}: TLS: {error.__cause__ or error}") from None
            except BaseException:
                await trio.aclose_forcefully(tls or stream)
                raise
            return tls
        raise refusals.unreachable(f"{endpoint}: no connection within {seconds:g} s")

    def context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """Return the TLS context for an endpoint, which trusts its certificates, else `anchors`.

        If there are none, it trusts those of the system.
        """
        trust = endpoint.trust or self.anchors
        context = self._contexts.get(trust)
        if context is None:
            context = ssl.create_default_context(cadata="\n".join(trust) or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            if len(self._contexts) >= MAX_CONTEXTS:
                self._contexts.clear()
            self._contexts[trust] = context
        return context

    def begin(self, endpoint: Endpoint) -> Started:
        """Start to connect to an IP address; returns None for a name.

        If no wait is needed, as on loopback, the connection is complete, except for TLS.
        """
        if (family := _literal(endpoint.host)) is None:
            return None
        return _begin_to(family, (endpoint.host, endpoint.port), self._budget)

    async def _connect(self, host: str, port: int, started: Started) -> PlainStream:
        """Complete a started connection, or connect to a name; raises OSError.

        If there is only one address, no race between addresses is needed, and no tasks for it.
        """
        if started is None:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            if len(found) > 1:
                stream = await trio.open_tcp_stream(host, port)
                sock = socket.socket(fileno=stream.socket.detach())
                if not self._budget.admits(sock.fileno()):
                    sock.close()
                    raise _no_room()
                return _adopt(sock)
            started = _begin_to(found[0][0], found[0][4], self._budget)
        if isinstance(started, OSError):
            raise started
        if isinstance(started, PlainStream):
            return started
        assert started is not None
        try:
            await trio.lowlevel.wait_writable(started)
            if code := started.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            return _adopt(started)
        except BaseException:
            started.close()
            raise


def _no_room() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _begin_to(
    family: int, address: tuple[str | int | bytes, ...], budget: DescriptorBudget
) -> Started:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return error
    if (number := sock.fileno()) >= budget.ceiling and not budget.admits(number):
        sock.close()
        return _no_room()
    try:
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            try:
                sock.getpeername()
            except OSError:
                return sock
            code = 0
        if not code:
            return _adopt(sock)
    except BaseException:
        sock.close()
        raise
    sock.close()
    return OSError(code, os.strerror(code))


@functools.lru_cache(maxsize=1000)
def _literal(host: str) -> socket.AddressFamily | None:
    """Return the address family of an IP address, None for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _adopt(sock: socket.socket) -> PlainStream:
    """Set the socket options of relayed connections: no Nagle delay, and TCP keep-alive."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return PlainStream(sock)
    except BaseException:
        sock.close()
        raise


def _reason(error: OSError) -> str:
    """Return why no address could be connected to; Trio keeps the causes in an exception group."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(str(one) for one in cause.exceptions))
    return error.strerror or str(error)
