"""Failed TLS handshakes: counted by listener and reason, and logged at a bounded rate.

One object per process; `stats_observer` reads the counts.
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
MAX_LINES = 60  # log lines per window
WINDOW = 60.0  # seconds; more failures are only counted


class TlsFailures:
    """Records failed handshakes. `refused` counts them by listener and reason."""

    def __init__(self) -> None:
        self.refused: Counter[tuple[str, str]] = Counter()
        self._ends = float("-inf")
        self._lines = 0
        self._suppressed: Counter[str] = Counter()  # by reason

    def note(self, listener: str, peer: str, error: TlsHandshakeError) -> None:
        """Record a failed handshake with `peer` on one of `LISTENERS`."""
        if not error.reason:
            return
        self.refused[listener, error.reason] += 1
        self.log_suppressed()
        if self._lines >= MAX_LINES:
            self._suppressed[error.reason] += 1
            return
        now = trio.current_time()
        if now >= self._ends:
            self._ends, self._lines = now + WINDOW, 0
        self._lines += 1
        offered = offer(error.sent)
        offer_text = "".join(f"; {name}: {value}" for name, value in offered.items())
        message = f"{peer} TLS handshake on listener {listener} failed: {error.why}{offer_text}"
        fields: dict[str, logs.Value] = {"client": peer, "listener": listener, "why": error.why}
        logs.event(log, logging.INFO, message, fields | offered, {"reason": error.reason})

    def log_suppressed(self) -> None:
        """Log how many were not logged one by one. Called from time to time."""
        if self._lines >= MAX_LINES and trio.current_time() >= self._ends:
            self._lines = 0
            if self._suppressed:
                most, count = self._suppressed.most_common(1)[0]
                log.info(
                    "%d more TLS handshakes failed within %g seconds; most frequent (%d): %s",
                    *(self._suppressed.total(), WINDOW, count, most.replace("_", " ")),
                )
                self._suppressed.clear()
