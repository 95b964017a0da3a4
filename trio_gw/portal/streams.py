"""Limits the answers that last for hours: event streams and WebSockets.

So they cannot use up the connections of the admin listener (`admin.connection_slots`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.admin.json_responses import FaultError
from trio_gw.portal.routes import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Limit(NamedTuple):
    total: int
    session: int


LIMITS = {Kind.STREAM: _Limit(64, 8), Kind.WEBSOCKET: _Limit(64, 16)}
RETRY = 5  # seconds


class Streams:
    """Counts the streams of this worker, in all and by session."""

    def __init__(self) -> None:
        self._open: Counter[tuple[Kind, str]] = Counter()
        self._total: Counter[Kind] = Counter()

    @contextlib.contextmanager
    def held(self, kind: Kind, session: str) -> Iterator[None]:
        """Hold a place while an answer lasts. Raises `FaultError` 429 if there is none."""
        if (limit := LIMITS.get(kind)) is None:
            yield
            return
        key = kind, session
        if self._total[kind] >= limit.total or self._open[key] >= limit.session:
            message = "too many open streams; close another tab of the portal"
            raise FaultError(429, message, headers={"Retry-After": str(RETRY)})
        self._total[kind] += 1
        self._open[key] += 1
        try:
            yield
        finally:
            self._total[kind] -= 1
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
