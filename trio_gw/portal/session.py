"""The sessions of the portal: who the cookie of a request names, and the cookies of answers.

spec: portal §3.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trio_gw.portal.caller import Caller
from trio_gw.portal.session_token import SessionTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import HTTPConnection
    from starlette.responses import Response

    from trio_gw.config.settings import AdminUser
    from trio_gw.guard.certificates import KeyPair
    from trio_gw.portal.logouts import Logouts


class PortalSessions:
    """Reads and writes cookies; `pair` returns the current key of the gateway."""

    def __init__(
        self, users: Sequence[AdminUser], pair: Callable[[], KeyPair], logouts: Logouts
    ) -> None:
        self._users = users
        self._pair = pair
        self._logouts = logouts
        self._tokens = SessionTokens(users, pair())

    async def caller(self, http: HTTPConnection) -> tuple[Caller, str | None]:
        """Return who makes a request, and a value for a new cookie if the session lives on."""
        tokens, now = self._current(), time.time()
        given = http.cookies.get(cookie_name(http))
        found = tokens.read(given, now) if given else None
        if found is None:
            return Caller(), None
        caller, began = found
        if await self._logouts.has(caller.session):
            return Caller(), None
        made = tokens.renew(caller, began, now)
        return (caller, None) if made is None else (made[1], made[0])

    def begin(self, user: str) -> tuple[str, Caller]:
        """Begin a session; its id is always a new one."""
        return self._current().begin(user, time.time())

    async def end(self, caller: Caller) -> None:
        """End a session, in all workers."""
        if caller.session:
            await self._logouts.add(caller.session, time.time())

    async def has_ended(self, caller: Caller) -> bool:
        """Return whether the user of a connection that lasts has logged out, in any worker."""
        return bool(caller.session) and await self._logouts.has(caller.session)

    def _current(self) -> SessionTokens:
        pair = self._pair()
        if pair is not self._tokens.pair:
            self._tokens = SessionTokens(self._users, pair)
        return self._tokens


def cookie_name(http: HTTPConnection) -> str:
    """Name the cookie. Cookies do not know ports, so the name has that of the listener."""
    port = http.scope["server"][1]
    # Only browsers that trust loopback would take a cookie with this prefix over plain HTTP.
    return f"__Host-trio-gw-{port}" if is_secure(http) else f"trio-gw-{port}"


def set_cookie(http: HTTPConnection, response: Response, value: str) -> None:
    """Set the cookie; an empty value removes it."""
    response.set_cookie(
        cookie_name(http),
        value,
        max_age=None if value else 0,
        path="/",
        secure=is_secure(http),
        httponly=True,
        samesite="strict",
    )


def is_secure(http: HTTPConnection) -> bool:
    """Return whether the request came over TLS."""
    return bool(http.scope["scheme"] in ("https", "wss"))
