"""Checks every request to the admin API, and adds security headers to every response.

It is in front of all routes, so a new route cannot bypass it. The requested host must be a name of
this listener (`guard.authority`), and a request that changes something must not come from a foreign
web page (`guard.crosssite`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.admin.json_responses import FaultError
from trio_gw.guard.crosssite import SAFE, is_foreign, own_origins

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from trio_gw.guard.authority import AuthorityNames

# No framing, no loading from other origins, no content sniffing.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class OriginCheck:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, names: AuthorityNames) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [one for one in HEADERS if one[0] not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        if (fault := self._fault(scope)) is None:
            await self._app(scope, receive, answer)
        else:
            await fault.response()(scope, receive, answer)

    def _fault(self, scope: Scope) -> FaultError | None:
        def values(wanted: bytes) -> list[bytes]:
            return [value for name, value in scope["headers"] if name == wanted]

        authority = b"".join(values(b"host")[:1])
        if not self._names.has(authority.decode("latin-1")):
            name = authority.decode("ascii", "replace")[:80]
            what = f'"{name}" is not a name of this gateway; add it to admin.hosts if it should be'
            return FaultError(421, what)
        own = own_origins(scope["scheme"], authority, scope["server"][1])
        foreign = is_foreign(values(b"sec-fetch-site"), values(b"origin"), own)
        if foreign and scope["method"] not in SAFE:
            return FaultError(403, "web pages of other origins may not use the admin API")
        return None
