"""What the portal tells of applications, subscriptions, tiers and environments. No secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trio_gw.config.placement import vhosts
from trio_gw.config.registry import KEY_TYPES
from trio_gw.config.tiers import known
from trio_gw.portal.addresses import client_urls
from trio_gw.portal.api_facts import spelt

if TYPE_CHECKING:
    from trio_gw.config.registry import ApiSubscription, RegisteredApplication
    from trio_gw.portal.request import PortalRequest
    from trio_gw.routing.table import RouteTable

_ids: WeakKeyDictionary[RouteTable, frozenset[str]] = WeakKeyDictionary()


def application_facts(request: PortalRequest, one: RegisteredApplication) -> dict[str, Any]:
    """Describe an application."""
    keys = {
        kind: {
            "consumer_key": key.consumer_key,
            "validity": key.validity,
            "created": key.created,
        }
        for kind in KEY_TYPES
        if (key := one.keys.get(kind)) is not None
    }
    return {
        "uuid": one.uuid,
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "owner": one.owner,
        "tier": one.tier,
        "created": one.created,
        "keys": keys,
        "subscriptions": [subscription_facts(request, each) for each in one.subscriptions],
    }


def subscription_facts(request: PortalRequest, one: ApiSubscription) -> dict[str, Any]:
    """Describe a subscription; `served` tells whether its API is served now."""
    return {
        "api": one.api,
        "name": one.name,
        "version": one.version,
        "title": one.title,
        "context": one.context,
        "tier": one.tier,
        "state": one.state,
        "created": one.created,
        "served": one.api in _served_ids(request.services.context.live.table),
    }


def _served_ids(table: RouteTable) -> frozenset[str]:
    found = _ids.get(table)
    if found is None:
        found = _ids[table] = frozenset(each.project.id for each in table.apis.values())
    return found


def tier_facts(request: PortalRequest) -> list[dict[str, Any]]:
    """List the tiers with their numbers, those without a limit first."""
    found = known(request.services.settings.tiers).values()
    return [
        {
            "name": tier.name,
            "limit": tier.limit,
            "unit": "bytes" if tier.octets else "events",
            "per": tier.per,
            "burst": tier.burst,
            "on_exceed": tier.on_exceed,
            "count": tier.count,
            "stop_on_quota": tier.stop_on_quota,
            "words": spelt(tier),
        }
        for tier in sorted(found, key=lambda tier: (tier.limits, tier.name))
        if tier.name != "Unauthenticated"  # of callers without an application
    ]


def environment_facts(request: PortalRequest) -> list[dict[str, Any]]:
    """List the environments with the URLs under which clients reach them."""
    services = request.services
    return [
        {
            "name": name,
            "host": host,
            "urls": client_urls(services.settings.portal, services.addresses, host),
        }
        for name, host in vhosts(services.settings.known_environments).items()
    ]
