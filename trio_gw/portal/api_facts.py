"""What is said of one API besides its topics: addresses, access, limits, CORS, backends. Pure.

spec: portal §2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import tiers
from trio_gw.config.cors import CorsSettings  # noqa: TC001 - needed to encode it

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.config.api import ApiProject, Cluster
    from trio_gw.config.settings import Settings
    from trio_gw.portal.served_apis import ServedApi

_CLIENT_CERTIFICATES = {
    "ignored": "not used",
    "optional": "may be shown (mutual TLS)",
    "required": "must be shown (mutual TLS)",
}


class ClientUrl(msgspec.Struct, frozen=True):
    """The URL of an API on one host and listener. `versioned` has the version in its path."""

    url: str
    host: str
    tls: bool
    versioned: bool


class TierFact(msgspec.Struct, frozen=True):
    """A limit by its name, what it applies to, and its numbers in words."""

    name: str
    applies: str
    words: str


class BackendFact(msgspec.Struct, frozen=True):
    """A backend, without path and query. `healthy` is None where that is not known."""

    side: str
    origin: str
    healthy: bool | None


class ApiAccess(msgspec.Struct, frozen=True):
    """How clients show who they are. `header` is that of the token."""

    header: str
    schemes: tuple[str, ...]
    scopes: tuple[str, ...]
    open_topics: tuple[str, ...]
    client_certificates: str


class ApiFacts(msgspec.Struct, frozen=True):
    """The facts about one API."""

    urls: tuple[ClientUrl, ...]
    access: ApiAccess
    tiers: tuple[TierFact, ...]
    cors: CorsSettings
    own_cors: bool
    unenforced: tuple[str, ...]


def api_facts(
    everywhere: tuple[ServedApi, ...], settings: Settings, bases: Mapping[str, Iterable[str]]
) -> ApiFacts:
    """Collect the facts. `bases` are the URLs of the listeners by host; the first API is shown."""
    api = everywhere[0].project
    return ApiFacts(
        tuple(_urls(everywhere, bases)),
        _access(everywhere[0], settings),
        tuple(_tiers(api, settings)),
        api.cors or settings.cors,
        api.cors is not None,
        api.unenforced,
    )


def _urls(
    everywhere: tuple[ServedApi, ...], bases: Mapping[str, Iterable[str]]
) -> Iterable[ClientUrl]:
    for one in everywhere:
        for base in bases[one.host]:
            tls = base.startswith("wss:")
            yield ClientUrl(base + one.project.base_path, one.host, tls, versioned=True)
            if one.project.default_version:
                path = one.project.context.rstrip("/")
                yield ClientUrl(base + path, one.host, tls, versioned=False)


def _access(served: ServedApi, settings: Settings) -> ApiAccess:
    api = served.project
    open_to_all = served.state == "PROTOTYPED"
    schemes = [] if open_to_all else ["OAuth2 token" if api.oauth2 else "token"]
    if any(topic.api_keys for topic in api.topics) and not open_to_all:
        schemes.append("API key")
    secured = () if open_to_all else tuple(topic for topic in api.topics if topic.secured)
    scopes = sorted({scope for topic in secured for scope in topic.scopes or ()})
    return ApiAccess(
        api.authorization_header or settings.authorization_header,
        tuple(schemes if secured else ()),
        tuple(scopes),
        tuple(topic.name for topic in api.topics if open_to_all or not topic.secured),
        _CLIENT_CERTIFICATES[api.mutual_tls],
    )


def _tiers(api: ApiProject, settings: Settings) -> Iterable[TierFact]:
    known = tiers.known(settings.tiers)
    named: dict[tuple[str, str], None] = {(api.tier, "the whole API"): None}
    for topic in api.topics:
        if topic.tier:
            named[topic.tier, f"topic {topic.name}"] = None
    for name, applies in named:
        tier = known.get(name)
        yield TierFact(name, applies, "not known here: no limit" if tier is None else spelt(tier))


def spelt(tier: tiers.Tier) -> str:
    """Write the numbers of a tier as a sentence."""
    if not tier.limits:
        return "no limit"
    unit = "bytes" if tier.octets else "messages"
    burst = f", {tier.burst:,} more in a burst" if tier.burst else ""
    what = {"drop": "dropped", "close": "answered with a Close", "pause": "held back"}
    return (
        f"{tier.limit:,} {unit} in {tiers.spoken(tier.per)}{burst};"
        f" what is more is {what[tier.on_exceed]}"
    )


def backends(api: ApiProject, up: Mapping[str, bool]) -> tuple[BackendFact, ...]:
    """List the backends of an API; `up` tells which are healthy, by their origin."""
    sides: tuple[tuple[str, Cluster | None], ...] = (
        ("production", api.production),
        ("sandbox", api.sandbox),
    )
    found = (
        BackendFact(side, endpoint.origin, up.get(endpoint.origin))
        for side, cluster in sides
        if cluster is not None
        for endpoint in cluster.endpoints
    )
    return tuple(dict.fromkeys(found))
