"""What each topic requires of its callers, computed once instead of for every handshake.

Only what the settings and the project say is cached. Checks of a credential (signature, expiry,
revocation, scopes) are done every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard.credentials import CredentialPlaces
from trio_gw.guard.schemes import AccessPolicy
from trio_gw.proxy import forwarding

if TYPE_CHECKING:
    from trio_gw.config.settings import Settings
    from trio_gw.routing.live import Live
    from trio_gw.routing.route import Route

MAX_CACHED = 10_000  # topics; far more than one table uses


class TopicPolicy(NamedTuple):
    """The policy of one topic. `drop` names headers with credentials, which no backend receives."""

    secured: bool
    places: CredentialPlaces
    drop: frozenset[bytes]
    demand: AccessPolicy


class TopicPolicies:
    """The policies of the current route table. One object per process."""

    def __init__(self, settings: Settings, live: Live) -> None:
        self._settings = settings
        self._live = live
        self._generation = live.generation
        self._known: dict[Route, TopicPolicy] = {}

    def of(self, route: Route) -> TopicPolicy:
        """Return the policy of a topic."""
        policy = self._known.get(route)
        if policy is None or self._generation != self._live.generation:
            if len(self._known) >= MAX_CACHED or self._generation != self._live.generation:
                self._known.clear()  # also drops routes that have left the table
                self._generation = self._live.generation
            policy = self._known[route] = _policy_for(self._settings, route)
        return policy


def _policy_for(settings: Settings, route: Route) -> TopicPolicy:
    api, topic = route.api, route.topic
    places, drop = CredentialPlaces(), frozenset[bytes]()
    if route.secured:
        places = _places(settings, route)
        if not settings.forward_credentials:
            drop = places.headers | forwarding.CREDENTIALS
    demand = AccessPolicy(
        topic=topic.name,
        api=api.name,
        version=api.version,
        base_path=api.base_path,
        api_uuid=api.id,
        secured=route.secured,
        scopes=topic.scopes,
        oauth2=api.oauth2,
        api_key=bool(topic.api_keys),
    )
    return TopicPolicy(route.secured, places, drop, demand)


def _places(settings: Settings, route: Route) -> CredentialPlaces:
    keys = route.topic.api_keys if settings.api_key.issuer else ()
    own = route.api.authorization_header or settings.authorization_header.lower()
    internal = settings.internal_key.header.lower() if settings.internal_key.issuer else ""
    return CredentialPlaces(
        bearer=own.encode("ascii"),
        internal_key=internal.encode("ascii"),
        api_key_headers=tuple(key.name.encode() for key in keys if key.place == "header"),
        api_key_parameters=tuple(key.name for key in keys if key.place == "query"),
        query_token=settings.query_token,
    )
