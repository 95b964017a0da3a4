"""Puts the portal in front of the admin API, and loads it with the first request for it.

Its libraries take some tenths of a second to import, which a start should not wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_gw.admin.json_responses import FaultError
from trio_gw.guard.roles import Role
from trio_gw.portal.caller import MOST_ROLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from trio_gw.portal.services import PortalServices
    from trio_gw.proxy.services import Services

BASE = b"/portal"


class PortalMount:
    """An ASGI application: the portal below `/portal`, and `below` for all other paths.

    Without `below` other paths lead to the portal, or nowhere. Users have at most the role `most`.
    """

    def __init__(
        self, portal: LazyPortal, below: ASGIApp | None = None, *, most: Role = Role.ADMIN
    ) -> None:
        self._portal = portal
        self._below = below
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: bytes = scope["raw_path"]
        if path == BASE or path.startswith(BASE + b"/"):
            extensions = {**scope["extensions"], MOST_ROLE: self._most}
            app = await self._portal.get()
            await app({**scope, "extensions": extensions}, receive, send)
        elif self._below is not None:
            await self._below(scope, receive, send)
        elif path == b"/":
            fault = FaultError(307, "the portal is at /portal/", headers={"Location": "/portal/"})
            await fault.response()(scope, receive, send)
        else:
            await FaultError(404, "this listener serves only /portal/").response()(
                scope, receive, send
            )


class LazyPortal:
    """The portal, made when it is first asked for."""

    def __init__(self, services: PortalServices) -> None:
        self._services = services
        self._app: ASGIApp | None = None
        self._making = trio.Lock()

    async def get(self) -> ASGIApp:
        """Return the portal."""
        if self._app is None:
            async with self._making:
                if self._app is None:
                    self._app = await trio.to_thread.run_sync(self._make)
        return self._app

    def _make(self) -> ASGIApp:
        from trio_gw.portal.app import PortalApp

        return PortalApp(self._services)


async def explain_handshake(services: Services, asked: bytes, address: str) -> object:
    """Explain a handshake that is described in JSON. Raises `FaultError`."""
    explain = await trio.to_thread.run_sync(_load_explain)
    return await explain(services, asked, address)


def _load_explain() -> Callable[[Services, bytes, str], Awaitable[object]]:
    from trio_gw.portal.explain import explain_json

    return explain_json
