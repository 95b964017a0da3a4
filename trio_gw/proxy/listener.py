"""Listening sockets: bind, accept, and start a handler for each connection in a nursery.

Serves any handler. A host name binds every address that it resolves to.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Problem, UnusableError
from trio_gw.proxy.descriptors import EXHAUSTED
from trio_gw.relay.plain import PlainStream
from trio_gw.supervision.background import SHORT, BackgroundTasks, TaskName

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.proxy.descriptors import DescriptorBudget
    from trio_gw.relay.waits import Waits

    Handler = Callable[[PlainStream, str], Awaitable[None]]

log = logging.getLogger("trio_gw.listener")

BACKLOG = 4096  # connections in the accept queue; capped by net.core.somaxconn
FREE_PORT_TRIES = 10
BATCH = 64  # connections to accept before other tasks run
PAUSE = 0.1  # seconds without accepting after descriptors or memory ran out
REFUSE_PAUSE = 0.01  # seconds between two connections that are closed for lack of descriptors
LOG_INTERVAL = 10.0  # seconds between two log lines about them
_NO_SUCH_FAMILY = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))


def bind(name: str, host: str, port: int) -> list[socket.socket]:
    """Bind every address of `host` (empty: all interfaces) to one port; 0 chooses a free one.

    Called before anything is served, possibly without an event loop, so the name lookup blocks.

    Raises `UnusableError` with a problem that names the setting: `name`, or `listen.<name>`.
    """
    setting = name if "." in name else f"listen.{name}"

    def refuse(what: str, hint: str) -> UnusableError:
        return UnusableError([Problem(setting, 0, 0, what, hint)])

    where = f"{host or '*'}:{port}"
    try:
        addresses = _addresses(host)
    except OSError as error:
        hint = "use a name or address of this machine, such as localhost or 0.0.0.0"
        raise refuse(f"{where}: {error.strerror}", hint) from None
    try:
        for _ in range(FREE_PORT_TRIES - 1 if port == 0 else 0):
            # A port that is free on one address may be in use on the next one: try another port.
            with contextlib.suppress(OSError):
                return _bind_all(addresses, port)
        return _bind_all(addresses, port)
    except OSError as error:
        hint = f"choose another port for {setting}, or turn the listener off with an empty text"
        if error.errno == errno.EADDRINUSE:
            hint = f"stop the program that holds the port, or {hint}"
        raise refuse(f"cannot listen on {where}: {error.strerror}", hint) from None


def _bind_all(addresses: list[tuple[int, str]], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                sockets.append(_bind_one(family, address, port))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error  # not every machine has IPv6
            else:
                port = sockets[0].getsockname()[1]
        if not sockets:
            assert missing is not None
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _addresses(host: str) -> list[tuple[int, str]]:
    """Return the (family, address) pairs of a host; `localhost` is loopback, whatever DNS says."""
    if host.lower() == "localhost":  # RFC 6761 §6.3
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _bind_one(family: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def accept_all(
    sock: socket.socket,
    handler: Handler,
    connections: trio.Nursery,
    accept_turn: Callable[[socket.socket], Awaitable[None]] | None = None,
    waits: Waits | None = None,
    budget: DescriptorBudget | None = None,
    background: BackgroundTasks | None = None,
) -> None:
    """Accept until cancelled; each connection runs as a task in `connections`.

    Stops listening when cancelled. `handler` gets the stream and the peer's address; it must not
    raise (`contain_errors`). If other processes accept from the same socket, `accept_turn` waits
    until this process may accept. If `waits` is given, it waits for the socket. If `budget` is
    given, a connection without a free descriptor is closed at once.
    """
    with sock:
        # Accepted sockets inherit these: no Nagle delay, and TCP keep-alive.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        accept = partial(_accept, sock, handler, connections, accept_turn, waits, budget)
        await (background or BackgroundTasks()).keep(TaskName.ACCEPT, accept, longest=SHORT)


async def _accept(
    sock: socket.socket,
    handler: Handler,
    connections: trio.Nursery,
    accept_turn: Callable[[socket.socket], Awaitable[None]] | None,
    waits: Waits | None,
    budget: DescriptorBudget | None,
) -> None:
    family, pausing, logged_at = sock.family, False, -LOG_INTERVAL
    while True:
        if waits is None:
            await trio.lowlevel.wait_readable(sock)
        else:
            await waits.readable(sock.fileno())
        if accept_turn is not None:
            await accept_turn(sock)
        try:
            for _ in range(BATCH if accept_turn is None else 1):
                # Like `accept`, but without the system call that asks for the known family.
                number, address = sock._accept()  # type: ignore[attr-defined]
                accepted = socket.socket(family, socket.SOCK_STREAM, 0, number)
                crowded = budget is not None and number >= budget.ceiling
                if budget is not None and crowded and not budget.admits(number):
                    accepted.close()
                    if trio.current_time() - logged_at >= LOG_INTERVAL:
                        logged_at = trio.current_time()
                        log.error("closing new connections: descriptors or memory are short")
                    await trio.sleep(REFUSE_PAUSE)
                    break
                if pausing:
                    pausing = False
                    log.warning("accepting again")
                connections.start_soon(handler, PlainStream(accepted), str(address[0]))
                if crowded:  # let the tasks run that release descriptors
                    break
        except MemoryError:  # an accepted socket is closed with its objects
            if budget is not None:
                budget.reclaim(1)
            await trio.sleep(PAUSE)
        except BlockingIOError:  # no more in the queue, or another process was faster
            pass
        except OSError as error:  # also: the connection was aborted before it was accepted
            if error.errno in EXHAUSTED:
                # Connections that end free descriptors; without the pause this loop would spin.
                if budget is not None:
                    budget.reclaim(1)
                if not pausing:
                    log.error("cannot accept: %s; retrying until it works", error.strerror)
                pausing = True
                await trio.sleep(PAUSE)


def contain_errors(handler: Handler) -> Handler:
    """Wrap a handler so that it does not raise: a bug ends its connection only."""

    async def serve(stream: PlainStream, peer: str) -> None:
        try:
            await handler(stream, peer)
        except* Exception as group:
            await drop(stream, peer, group)

    return serve


async def drop(stream: PlainStream, peer: str, why: BaseException) -> None:
    """Close a connection because of a bug in its handler."""
    log.error("%s: the connection failed", peer, exc_info=why)
    await trio.aclose_forcefully(stream)
