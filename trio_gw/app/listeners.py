"""The listeners that the settings ask for: bound, told of, served and closed together.

Called by `worker`, and by `processes`, which binds them before it forks.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config.addresses import is_loopback, parse_address
from trio_gw.guard.authority import AuthorityNames
from trio_gw.proxy.connection import serve
from trio_gw.proxy.listener import bind, drop
from trio_gw.relay.secure import SecureStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.config.settings import Settings
    from trio_gw.guard.tls import ServerTls
    from trio_gw.proxy.services import Services
    from trio_gw.relay.plain import PlainStream
    from trio_gw.workers.shared_state import SharedState

log = logging.getLogger("trio_gw")

TRAFFIC = frozenset(("http", "https"))  # the listeners that clients connect to
Sockets = dict[str, "list[socket.socket]"]  # by the name of their listener


class Addresses(NamedTuple):
    """Where the listeners are bound; None for one that is turned off."""

    http: tuple[str, int] | None
    https: tuple[str, int] | None
    admin: tuple[str, int] | None = None
    metrics: tuple[str, int] | None = None


def bind_all(settings: Settings) -> Sockets:
    """Bind the listeners. Raises `UnusableError` naming the first that cannot be."""
    listeners: Sockets = {}
    try:
        for name in ("http", "https", "admin"):
            if text := getattr(settings.listen, name):
                listeners[name] = bind(name, *parse_address(text))
        if text := settings.metrics.listen:
            listeners["metrics"] = bind("metrics.listen", *parse_address(text))
    except BaseException:
        close_all(listeners)
        raise
    return listeners


def admin_names(settings: Settings, tls: ServerTls) -> AuthorityNames:
    """Name the hosts that the admin API answers to."""
    names = (*_names(settings.listen.admin), *settings.admin.hosts)
    return AuthorityNames(names, lambda: tls.hosts, local=True)


def metrics_names(settings: Settings) -> AuthorityNames | None:
    """Name the hosts that the listener of metrics answers to; None: to any.

    On loopback it is browsers of this machine that others could reach it through.
    """
    text = settings.metrics.listen
    if not text or not is_loopback(parse_address(text)[0]):
        return None
    return AuthorityNames(_names(text), local=True)


def _names(listen: str) -> tuple[str, ...]:
    machine = socket.gethostname()
    return (
        "localhost",
        machine,
        machine.partition(".")[0],
        parse_address(listen)[0] if listen else "",
    )


def close_all(listeners: Sockets) -> None:
    """Stop listening, as far as this process is concerned."""
    for sock in (sock for sockets in listeners.values() for sock in sockets):
        sock.close()


def log_addresses(listeners: Sockets) -> None:
    """Say where the gateway listens."""
    for name, sockets in listeners.items():
        for sock in sockets:
            host, port = sock.getsockname()[:2]
            where = f"[{host}]" if ":" in host else host
            if name == "admin":
                log.info("admin API on https://%s:%d", where, port)
            else:
                log.info("listening on %s://%s:%d", name, where, port)


def addresses_of(listeners: Sockets) -> Addresses:
    """Tell where each listener is bound."""
    return Addresses(*(_address(listeners, name) for name in Addresses._fields))


def _address(listeners: Sockets, name: str) -> tuple[str, int] | None:
    sockets = listeners.get(name)
    return (sockets[0].getsockname()[0], sockets[0].getsockname()[1]) if sockets else None


def handler_of(
    services: Services, shared_state: SharedState, server: ServerTls | None
) -> Callable[[PlainStream, str], Awaitable[None]]:
    """Make what serves the connections of a listener, over TLS if it is given a server.

    A bug in serving one ends that one (as with `contain_errors`, at the cost of no further frame).
    """

    async def plain(stream: PlainStream, peer: str) -> None:
        try:
            with shared_state.count_connection():
                await serve(services, stream, peer)
        except* Exception as group:
            await drop(stream, peer, group)

    async def tls(stream: PlainStream, peer: str) -> None:
        assert server is not None
        try:
            secure = SecureStream(stream, server.context, server_side=True)
        except OSError:  # it left before it was served
            await trio.aclose_forcefully(stream)
            return
        try:
            with shared_state.count_connection():
                await serve(services, secure, peer, tls=True)
        except* Exception as group:
            await drop(stream, peer, group)

    return plain if server is None else tls
