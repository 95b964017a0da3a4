"""Registered applications in one process: their registry, its effect, and the token endpoint.

The registry is the source of the entitlements, as a control plane is where there is one, and a
source of revocations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config import registry_rows
from trio_gw.config.registry import ISSUER
from trio_gw.config.tiers import known
from trio_gw.feed.registry_source import RegistrySource
from trio_gw.feed.registry_store import RegistryStore
from trio_gw.guard.revocations import Revoked
from trio_gw.guard.token_endpoint import KeyOwner, ScopedApi, TokenEndpoint

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.config.entitlements import Change, Entitlements
    from trio_gw.config.registry import Registry
    from trio_gw.config.settings import Settings
    from trio_gw.guard.certificates import KeyPair
    from trio_gw.guard.revocations import Revocations
    from trio_gw.routing.live import Live
    from trio_gw.routing.table import RouteTable

ORIGIN = "applications"  # of revocations


class Applications:
    """The applications of one process."""

    def __init__(
        self,
        settings: Settings,
        base: Path,
        pair: KeyPair,
        live: Live,
        revocations: Revocations,
    ) -> None:
        folder = settings.portal.folder
        self._live = live
        self._revocations = revocations
        self._served: tuple[RouteTable | None, dict[str, ScopedApi]] = (None, {})
        store = RegistryStore(base / folder, folder)
        self.source = RegistrySource(store, self._prepare, self._use)
        tiers = known(settings.tiers)
        self.endpoint = TokenEndpoint(settings.application_issuer, pair, self, tiers)

    async def owner(self, consumer_key: str) -> KeyOwner | None:
        """Return the owner of a key, as it is on disk now: another worker may have made it."""
        current = await self.source.fresh()
        row = self._live.entitlements.key_mappings.get((consumer_key, ISSUER))
        application = None if row is None else current.applications.get(row.application_uuid)
        if application is None:
            return None
        for key_type, key in application.keys.items():
            if key.consumer_key == consumer_key:
                return KeyOwner(application, key_type, key)
        return None

    def api(self, api: str) -> ScopedApi | None:
        """Return an API of the current table, by its id."""
        table = self._live.table
        if self._served[0] is not table:
            self._served = (table, _served(table))
        return self._served[1].get(api)

    def earliest(self, subject: str, consumer_key: str) -> float:
        """Return the time (epoch seconds) before which no token of these may be issued."""
        return self._revocations.earliest(subject, consumer_key)

    def _prepare(self, before: Registry, after: Registry) -> _NextState:
        """Work a change out; in a thread, for there may be thousands of applications."""
        current = self._live.entitlements
        change = registry_rows.change(before, after, current.apis)
        revoked = None
        if after.tokens != before.tokens or after.names != before.names:
            revoked = _revoked(after)
        return _NextState(current.apply(change), change, revoked)

    def _use(self, after: _NextState) -> None:
        """Put a change into effect in this process."""
        if after.revoked is not None:
            self._revocations.publish(ORIGIN, after.revoked)
        if after.change:
            self._live.entitle(after.entitlements, after.change)


class _NextState(NamedTuple):
    """What holds after a change. `revoked` is None if that has not changed."""

    entitlements: Entitlements
    change: Change
    revoked: Revoked | None


def _revoked(current: Registry) -> Revoked:
    return Revoked(
        tokens=frozenset(one.jti for one in current.tokens if not one.subject),
        owned=frozenset((one.jti, one.subject) for one in current.tokens if one.subject),
        before={(one.kind, one.name): one.before for one in current.names},
    )


def _served(table: RouteTable) -> dict[str, ScopedApi]:
    """List the APIs of a table by their ids; one that is on several hosts has all scopes."""
    found: dict[str, ScopedApi] = {}
    for routes in table.apis.values():
        project = routes.project
        scopes = {scope for topic in project.topics for scope in topic.scopes or ()}
        if (before := found.get(project.id)) is not None:
            scopes |= before.scopes
        found[project.id] = ScopedApi(
            project.name,
            project.version,
            project.base_path,
            project.organization,
            frozenset(scopes),
        )
    return found
