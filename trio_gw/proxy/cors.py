"""What browsers are told about other origins (spec: security §9).

Browsers do not apply CORS to WebSockets; the headers matter to pages that look at an API's plain
answers, and to preflights. Compiled once from the settings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_gw.config.settings import Cors as Settings
    from trio_gw.errors import Headers
    from trio_gw.wire.http import RequestHead

PREFIX = b"access-control-"


class Cors:
    """The policy of all topics."""

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.enabled
        patterns = (
            ".*".join(map(re.escape, origin.split("*"))) for origin in settings.allow_origins
        )
        self._origins = re.compile("|".join(patterns) or r"(?!)", re.DOTALL)
        self._any = "*" in settings.allow_origins
        self._methods = ", ".join(settings.allow_methods).encode("ascii")
        self._headers = ", ".join(settings.allow_headers).encode("ascii")
        common: list[tuple[bytes, bytes]] = []
        if settings.allow_credentials:
            common.append((PREFIX + b"allow-credentials", b"true"))
        if settings.expose_headers:
            exposed = ", ".join(settings.expose_headers).encode("ascii")
            common.append((PREFIX + b"expose-headers", exposed))
        self._common = tuple(common)

    def headers(self, head: RequestHead) -> Headers:
        """Return the headers for any answer to this request; none for an origin not allowed."""
        origin = self._origin(head)
        if origin is None:
            return ()
        vary = () if self._any else ((b"vary", b"origin"),)
        return ((PREFIX + b"allow-origin", origin), *self._common, *vary)

    def preflight(self, head: RequestHead) -> Headers | None:
        """Return the headers that answer a preflight, or None if this is none to be answered."""
        if not head.values(PREFIX + b"request-method") or self._origin(head) is None:
            return None
        allowed = (
            (PREFIX + b"allow-methods", self._methods),
            (PREFIX + b"allow-headers", self._headers),
        )
        return tuple(pair for pair in allowed if pair[1])

    def _origin(self, head: RequestHead) -> bytes | None:
        origins = head.values(b"origin")
        if not self._enabled or len(origins) != 1 or not origins[0]:
            return None
        matches = self._any or self._origins.fullmatch(origins[0].decode("latin-1"))
        return origins[0] if matches else None
