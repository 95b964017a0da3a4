"""Which web pages may use an API, and the CORS headers for their browsers (spec: security §9).

Browsers do not apply CORS to WebSockets: any page can open one, with the cookies of its visitor. So
a handshake with an `Origin` that is not allowed is refused (RFC 6455 §10.2). Clients that are not
browsers send no `Origin`. The headers matter for pages that read other responses of an API, and for
preflights. A policy is compiled once: for the settings, and for each API with its own policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.wildcards import Wildcards

if TYPE_CHECKING:
    from trio_gw.config.cors import CorsSettings as Settings
    from trio_gw.errors import Headers
    from trio_gw.wire.head import RequestHead

PREFIX = b"access-control-"
MAX_POLICIES = 1000  # far more than a table has


class CorsPolicies:
    """The policy of the settings, and the policies of APIs that have their own."""

    def __init__(self, settings: Settings) -> None:
        self._default = CorsPolicy(settings)
        # By identity: hashing a long policy is slow. The value keeps the policy alive.
        self._own: dict[int, tuple[Settings, CorsPolicy]] = {}

    def of(self, own: Settings | None) -> CorsPolicy:
        """Return the policy for an API; it is compiled at its first use."""
        if own is None:
            return self._default
        known = self._own.get(id(own))
        if known is None:
            if len(self._own) >= MAX_POLICIES:
                self._own.clear()
            known = self._own[id(own)] = own, CorsPolicy(own)
        return known[1]


class CorsPolicy:
    """One compiled policy."""

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.enabled
        self._origins = Wildcards(settings.allow_origins)
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

    def admits(self, head: RequestHead) -> bool:
        """Whether a handshake is allowed: it has no origin, or an allowed one."""
        origins = head.values(b"origin")
        if not origins or not self._enabled or self._any:
            return True
        return self._origin(head) is not None

    def headers(self, head: RequestHead) -> Headers:
        """Return the headers for any response to this request; none if the origin is not
        allowed.
        """
        origin = self._origin(head)
        if origin is None:
            return ()
        vary = () if self._any else ((b"vary", b"origin"),)
        return ((PREFIX + b"allow-origin", origin), *self._common, *vary)

    def preflight(self, head: RequestHead) -> Headers | None:
        """Return the headers that answer a preflight; None if this is not a preflight to answer."""
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
        if not self._any:
            origin = origins[0].decode("latin-1")
            if not self._origins.fit(origin):
                return None
        return origins[0]
