"""The subscriptions in a token: the claims `subscribedAPIs` and `tierInfo`.

Called by `tokens`, which caches the result with the caller, and by `schemes`. Pure.
spec: security §3.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.guard.caller import Subscription, text

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_APIS = 1000  # maximum of one token; more do not fit into 16 KiB


class Carried(msgspec.Struct, frozen=True):
    """The subscriptions by (name, version) and by (context, version) of the API."""

    declared: bool = False
    by_name: dict[tuple[str, str], Subscription] = {}
    by_context: dict[tuple[str, str], Subscription] = {}


NOTHING = Carried()


def carried(claims: dict[str, Any]) -> Carried:
    """Read the subscriptions from verified claims."""
    listed = claims.get("subscribedAPIs")
    if listed is None:
        return NOTHING
    tiers = claims.get("tierInfo")
    by_name: dict[tuple[str, str], Subscription] = {}
    by_context: dict[tuple[str, str], Subscription] = {}
    for entry in _entries(listed):
        found = _subscription(entry, tiers if isinstance(tiers, dict) else {})
        version = text(entry.get("version"))
        # Of two entries for one API the first counts, as in the reference system.
        if name := text(entry.get("name")):
            by_name.setdefault((name, version), found)
        if context := text(entry.get("context")):
            by_context.setdefault((context, version), found)
    return Carried(True, by_name, by_context)


def _entries(listed: object) -> Iterator[dict[str, Any]]:
    if isinstance(listed, list):
        yield from (entry for entry in listed[:MAX_APIS] if isinstance(entry, dict))


def _subscription(entry: dict[str, Any], tiers: dict[str, Any]) -> Subscription:
    tier = text(entry.get("subscriptionTier"))
    information = tiers.get(tier)
    stop = information.get("stopOnQuotaReach") if isinstance(information, dict) else None
    return Subscription(
        tier=tier,
        stop_on_quota=stop is not False,
        publisher=text(entry.get("publisher")),
        tenant=text(entry.get("subscriberTenantDomain")),
    )
