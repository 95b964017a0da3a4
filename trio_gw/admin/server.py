"""Handles one connection of the admin listener: slot, TLS, HTTP/1.1.

The sockets are bound and accepted like those of the traffic listeners. The current certificate is
used for each new connection.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.admin.connection_slots import MAX_CONNECTIONS, ConnectionSlots
from trio_gw.admin.http1 import GoneError, Http1Connection
from trio_gw.proxy.tls_handshake import TlsHandshakeError
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.secure import SecureStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from trio_gw.proxy.tls_failures import TlsFailures
    from trio_gw.relay.plain import PlainStream

log = logging.getLogger("trio_gw.admin")


class AdminServer:
    """Serves the application over connections accepted elsewhere.

    `context` returns the TLS context for the next connection; without it there is no TLS.
    """

    def __init__(
        self,
        app: ASGIApp,
        context: Callable[[], ssl.SSLContext] | None,
        tls_failures: TlsFailures,
    ) -> None:
        self._app = app
        self._tls_failures = tls_failures
        self._tls = context
        self._slots = ConnectionSlots()
        self._full = False

    async def handle(self, stream: PlainStream, peer: str) -> None:
        """Serve one connection until its end. Never raises, except for cancellation."""
        slot = self._slots.acquire(peer)
        if slot is None:
            if not self._full:
                log.warning(
                    "%s: closed, %d authenticated connections are open", peer, MAX_CONNECTIONS
                )
            self._full = True
            await trio.aclose_forcefully(stream)
            return
        self._full = False
        secure: SecureStream | None = None
        try:
            with slot.scope as ended:
                if self._tls is not None:
                    secure = SecureStream(stream, self._tls(), server_side=True)
                authenticated = partial(self._slots.mark_authenticated, slot)
                served = stream if secure is None else secure
                await Http1Connection(self._app, served, peer, authenticated).serve()
            if ended.cancelled_caught:
                log.debug("%s: closed to make room for another connection", peer)
        except TlsHandshakeError as error:
            self._tls_failures.note("admin", peer, error)
        except GoneError as error:
            log.debug("%s: %s", peer, error)
        except BROKEN as error:
            log.debug("%s: the connection broke: %s", peer, error.__cause__ or error)
        except Exception:
            log.exception("%s: the connection failed", peer)
        finally:
            self._slots.release(slot)
            await trio.aclose_forcefully(stream if secure is None else secure)
