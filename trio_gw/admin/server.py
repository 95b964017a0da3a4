"""What happens to one connection of the admin listener: a place, TLS, HTTP/1.1.

The sockets are bound and accepted from like those of the traffic. The certificate is the one
that is good at that moment.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.admin.http1 import Connection, GoneError
from trio_gw.admin.places import MOST, Places
from trio_gw.proxy.tls import HandshakeError
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.secure import SecureStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from trio_gw.proxy.handshakes import Handshakes
    from trio_gw.relay.plain import PlainStream

log = logging.getLogger("trio_gw.admin")


class Server:
    """Serves the application over connections that somebody else accepts.

    `context` gives the TLS context for the next connection.
    """

    def __init__(
        self, app: ASGIApp, context: Callable[[], ssl.SSLContext], handshakes: Handshakes
    ) -> None:
        self._app = app
        self._handshakes = handshakes
        self._tls = context
        self._places = Places()
        self._full = False

    async def handle(self, stream: PlainStream, peer: str) -> None:
        """Serve one connection to its end. Never raises but for cancellation."""
        place = self._places.enter(peer)
        if place is None:
            if not self._full:
                log.warning("%s: more than %d connections of users, closed", peer, MOST)
            self._full = True
            await trio.aclose_forcefully(stream)
            return
        self._full = False
        secure: SecureStream | None = None
        try:
            with place.scope as ended:
                secure = SecureStream(stream, self._tls(), server_side=True)
                known = partial(self._places.know, place)
                await Connection(self._app, secure, peer, known).serve()
            if ended.cancelled_caught:
                log.debug("%s: ended for another connection", peer)
        except HandshakeError as error:
            self._handshakes.note("admin", peer, error)
        except GoneError as error:
            log.debug("%s: %s", peer, error)
        except BROKEN as error:
            log.debug("%s: the connection broke: %s", peer, error.__cause__ or error)
        except Exception:
            log.exception("%s: the connection failed", peer)
        finally:
            self._places.leave(place)
            await trio.aclose_forcefully(stream if secure is None else secure)
