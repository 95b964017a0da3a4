"""Binds, logs, serves and closes the listeners of the settings.

Called by `build` and `worker`, and by `multiprocess`, which binds them before it forks.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config.addresses import is_loopback, parse_address
from trio_gw.config.portal import PortalSettings
from trio_gw.errors import UnusableError
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
    """The addresses of the listeners. None means that a listener is turned off."""

    http: tuple[str, int] | None
    https: tuple[str, int] | None
    admin: tuple[str, int] | None = None
    metrics: tuple[str, int] | None = None
    portal: tuple[str, int] | None = None
    consumers: tuple[str, int] | None = None


def bind_all(settings: Settings) -> Sockets:
    """Bind the listeners. Raises `UnusableError`, which names the first one that fails."""
    listeners: Sockets = {}
    try:
        for name in ("http", "https", "admin"):
            if text := getattr(settings.listen, name):
                listeners[name] = bind(name, *parse_address(text))
        if text := settings.metrics.listen:
            listeners["metrics"] = bind("metrics.listen", *parse_address(text))
        if settings.portal.enabled and settings.portal.local and settings.listen.admin:
            listeners["portal"] = _bind_portal(settings.portal.local)
        if settings.portal.enabled and (text := settings.portal.listen):
            listeners["consumers"] = bind("portal.listen", *parse_address(text))
    except BaseException:
        close_all(listeners)
        raise
    return listeners


def _bind_portal(text: str) -> list[socket.socket]:
    """Bind the plain listener of the portal. A second gateway starts without it, by default."""
    try:
        return bind("portal.local", *parse_address(text))
    except UnusableError as error:
        if text != PortalSettings().local:
            raise
        for problem in error.problems:
            log.warning("the portal is at the admin listener only: %s", problem)
        return []


def admin_names(settings: Settings, tls: ServerTls) -> AuthorityNames:
    """Return the host names that the admin API accepts."""
    names = (*_names(settings.listen.admin), *settings.admin.hosts)
    return AuthorityNames(names, lambda: tls.hosts, local=True)


def portal_names(settings: Settings, tls: ServerTls) -> AuthorityNames:
    """Return the host names that the portal accepts; of one label only those that are known."""
    names = [*settings.admin.hosts, *settings.portal.hosts]
    for text in (settings.listen.admin, settings.portal.listen):
        names += _names(text)
    return AuthorityNames(names, lambda: tls.hosts)


def metrics_names(settings: Settings) -> AuthorityNames | None:
    """Return the host names that the metrics listener accepts. None means any.

    They are limited on loopback, where a foreign web page could reach it through a local browser.
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
    """Close the listening sockets of this process."""
    for sock in (sock for sockets in listeners.values() for sock in sockets):
        sock.close()


def log_addresses(listeners: Sockets) -> None:
    """Log the addresses on which the gateway listens."""
    for name, sockets in listeners.items():
        for sock in sockets:
            host, port = sock.getsockname()[:2]
            where = f"[{host}]" if ":" in host else host
            if name == "admin":
                log.info("admin API on https://%s:%d", where, port)
            elif name == "portal":
                log.info("portal on http://%s:%d/portal/", where, port)
            elif name == "consumers":
                log.info("portal for consumers on https://%s:%d/portal/", where, port)
            else:
                log.info("listening on %s://%s:%d", name, where, port)


def addresses_of(listeners: Sockets) -> Addresses:
    """Return the address of each listener."""
    return Addresses(*(_address(listeners, name) for name in Addresses._fields))


def bound_addresses(listeners: Sockets) -> dict[str, tuple[str, int]]:
    """Return the first address of each listener that is bound, by its name."""
    found = {name: _address(listeners, name) for name in listeners}
    return {name: address for name, address in found.items() if address is not None}


def _address(listeners: Sockets, name: str) -> tuple[str, int] | None:
    sockets = listeners.get(name)
    return (sockets[0].getsockname()[0], sockets[0].getsockname()[1]) if sockets else None


def handler_of(
    services: Services, shared_state: SharedState, server: ServerTls | None
) -> Callable[[PlainStream, str], Awaitable[None]]:
    """Make the handler of a listener's connections. With `server` it uses TLS.

    A bug in the code that serves a connection ends only that connection. `contain_errors` does the
    same, but adds a coroutine to each connection.
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
        except OSError:  # the client left before it was served
            await trio.aclose_forcefully(stream)
            return
        try:
            with shared_state.count_connection():
                await serve(services, secure, peer, tls=True)
        except* Exception as group:
            await drop(stream, peer, group)

    return plain if server is None else tls
