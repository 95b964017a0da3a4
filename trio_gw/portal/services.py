"""What the pages and endpoints of the portal use. Built at start, before any of them is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from trio_gw.portal.logouts import Logouts
from trio_gw.portal.session import PortalSessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from trio_gw.admin.context import Context
    from trio_gw.config.settings import Settings
    from trio_gw.feed.catalog import Catalog
    from trio_gw.guard.authority import AuthorityNames
    from trio_gw.guard.keys import KeyRing
    from trio_gw.guard.testkey import TestKeys
    from trio_gw.proxy.services import Services
    from trio_gw.relay.plain import PlainStream

T = TypeVar("T")


class PortalServices(NamedTuple):
    """The services of the portal.

    `context` is that of the admin API, `services` that of the connections of clients. `front_door`
    serves a connection as the plain listener does. `addresses` are the bound ones, by the name of
    the listener, `names` those that its pages may be asked for with.
    """

    settings: Settings
    base: Path
    context: Context
    services: Services
    catalog: Catalog
    keys: KeyRing
    testkeys: TestKeys | None
    front_door: Callable[[PlainStream, str], Awaitable[None]]
    addresses: Mapping[str, tuple[str, int]]
    names: AuthorityNames
    sessions: PortalSessions
    working: trio.CapacityLimiter
    rendering: trio.CapacityLimiter

    @property
    def ruled(self) -> bool:
        """Whether a control plane rules, so that nothing may be changed here."""
        return not self.context.deploys

    @property
    def folder(self) -> Path:
        """The folder of what the portal stores; it may not exist yet."""
        return self.base / self.settings.portal.folder

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run heavy work away from the event loop: one job at a time, in one thread."""
        return await trio.to_thread.run_sync(work, limiter=self.working)


def make_services(
    settings: Settings,
    base: Path,
    context: Context,
    services: Services,
    *,
    catalog: Catalog,
    keys: KeyRing,
    testkeys: TestKeys | None,
    front_door: Callable[[PlainStream, str], Awaitable[None]],
    addresses: Mapping[str, tuple[str, int]],
    names: AuthorityNames,
) -> PortalServices:
    """Build the services."""
    return PortalServices(
        *(settings, base, context, services, catalog, keys, testkeys, front_door, addresses),
        names=names,
        sessions=PortalSessions(
            settings.admin.users, lambda: services.tls.pair, Logouts(base / settings.portal.folder)
        ),
        working=trio.CapacityLimiter(1),
        rendering=trio.CapacityLimiter(1),
    )
