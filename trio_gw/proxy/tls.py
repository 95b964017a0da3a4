"""The client's side of TLS: the handshake, and whose certificate the client showed in it.

Called by `connection` for the TLS listener; the one place that reaches into the stream for what
the handshake proved.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from typing import TYPE_CHECKING

import trio

from trio_gw.relay.farewell import BROKEN

if TYPE_CHECKING:
    from trio_gw.guard.clients import ClientPeer
    from trio_gw.guard.tls import ServerTls
    from trio_gw.relay.secure import SecureStream

log = logging.getLogger("trio_gw.connection")


LINGER = 1.0  # seconds a client has to read the alert that says why its handshake failed


async def shake_hands(stream: SecureStream, tls: ServerTls, peer: str) -> ClientPeer | None:
    """Make the handshake; return whose certificate the client showed, None if it showed none.

    `peer` is the client's address, for the log. Raises as the stream does. With TLS 1.3 a client
    whose certificate is refused believes to be connected, and learns otherwise when it reads.
    """
    failed: trio.BrokenResourceError | None = None
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        failed = error
    if failed is not None:
        if isinstance(cause := failed.__cause__, ssl.SSLCertVerificationError):
            log.info("%s client certificate refused: %s", peer, cause.verify_message)
        if isinstance(cause, ssl.SSLError):
            # What the client has sent meanwhile would reset the connection, and with it the alert.
            with trio.move_on_after(LINGER), contextlib.suppress(*BROKEN):
                await stream.send_eof()
                while await stream.receive_raw():
                    pass
        raise failed
    return tls.identify(stream.tls)
