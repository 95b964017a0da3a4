"""TLS handshakes that failed: counted by listener and reason, and logged within bounds.

One per process; `stats_observer` reads the counts.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import trio

from trio_gw.proxy.tls_handshake import offer
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    from trio_gw.proxy.tls_handshake import TlsHandshakeError

log = logging.getLogger("trio_gw.connection")

LISTENERS = ("https", "admin")
LINES = 60  # of the log, within
WINDOW = 60.0  # seconds; further ones are only counted


class TlsFailures:
    """Notes handshakes that failed. `refused` counts them by listener and reason."""

    def __init__(self) -> None:
        self.refused: Counter[tuple[str, str]] = Counter()
        self._ends = float("-inf")
        self._lines = 0
        self._untold: Counter[str] = Counter()  # by reason

    def note(self, listener: str, peer: str, error: TlsHandshakeError) -> None:
        """Note a handshake with `peer` on one of `LISTENERS`."""
        if not error.reason:
            return
        self.refused[listener, error.reason] += 1
        self.tell()
        if self._lines >= LINES:
            self._untold[error.reason] += 1
            return
        now = trio.current_time()
        if now >= self._ends:
            self._ends, self._lines = now + WINDOW, 0
        self._lines += 1
        offered = offer(error.sent)
        said = "".join(f"; {name}: {value}" for name, value in offered.items())
        message = f"{peer} TLS handshake on listener {listener} failed: {error.why}{said}"
        told: dict[str, logs.Value] = {"client": peer, "listener": listener, "why": error.why}
        logs.event(log, logging.INFO, message, told | offered, {"reason": error.reason})

    def tell(self) -> None:
        """Log how many had no line of their own; called now and then."""
        if self._lines >= LINES and trio.current_time() >= self._ends:
            self._lines = 0
            if self._untold:
                most, count = self._untold.most_common(1)[0]
                log.info(
                    "%d more TLS handshakes failed within %g seconds; most (%d): %s",
                    *(self._untold.total(), WINDOW, count, most.replace("_", " ")),
                )
                self._untold.clear()
