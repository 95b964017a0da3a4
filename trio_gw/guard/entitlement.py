"""Looks up the subscription of an application in the rows of the entitlements. Pure.

The rows come from the control plane, or from the registry of applications. Called by `schemes` at
every handshake whose subscription is looked up, and by `proxy.entitled_sessions` for open
connections after a change. Six look-ups in dictionaries, however many rows there are.
spec: control-plane §5.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard import refusals
from trio_gw.guard.caller import Application, Subscription

if TYPE_CHECKING:
    from trio_gw.config.entitlements import (
        ApplicationRow,
        Entitlements,
        PolicyLevel,
        PolicyRow,
        SubscriptionRow,
    )
    from trio_gw.errors import Refusal


class Denial(enum.Enum):
    """Why an application may not use an API. The value is the reason in logs and Close frames."""

    NO_API = "nobody is subscribed to the API"
    NO_KEY = "application key removed"
    NO_APPLICATION = "application removed"
    NO_SUBSCRIPTION = "subscription removed"
    ENDED = "subscription ended"
    BLOCKED = "subscription blocked"
    INACTIVE = "subscription not active"
    API_BLOCKED = "API blocked"

    def refusal(self) -> Refusal:
        """Return the refusal to answer a handshake with (spec: security §3.5)."""
        if self is Denial.API_BLOCKED:
            return refusals.api_blocked()
        if self is Denial.BLOCKED:
            return refusals.subscription_blocked()
        if self is Denial.INACTIVE:
            return refusals.subscription_inactive()
        return refusals.not_subscribed(_WHY[self])


_WHY = {
    Denial.NO_API: "the API is not known, so nobody is subscribed to it",
    Denial.NO_KEY: "the consumer key is not known",
    Denial.NO_APPLICATION: "the application is not known",
    Denial.NO_SUBSCRIPTION: "the application is not subscribed to the API",
    Denial.ENDED: "the application has unsubscribed since the token was issued",
}


class Grant(NamedTuple):
    """What a subscription gives a caller. `key_type` is that of the consumer key, upper-case."""

    application: Application
    subscription: Subscription
    key_type: str


def find(
    entitlements: Entitlements,
    consumer_key: str,
    key_manager: str,
    api_uuid: str,
    tenant: str = "",
    issued_at: float | None = None,
) -> Grant | Denial:
    """Find the subscription to an API of the application with this key of this key manager.

    `tenant` is that of the control plane: its applications name none. `issued_at` is the time of
    the token (epoch seconds).
    """
    api = entitlements.apis.get(api_uuid)
    if api is None:
        return Denial.NO_API
    mapping = entitlements.key_mappings.get((consumer_key, key_manager))
    if mapping is None:
        return Denial.NO_KEY
    application = entitlements.applications.get(mapping.application_uuid)
    if application is None:
        return Denial.NO_APPLICATION
    ids = entitlements.subscribed.get((application.uuid, api_uuid))
    if not ids:
        return Denial.NO_SUBSCRIPTION
    subscription = entitlements.subscriptions[ids[-1]]
    if subscription.since and (issued_at is None or issued_at < subscription.since):
        return Denial.ENDED
    key_type = mapping.key_type.upper() or "PRODUCTION"
    if (denial := _denied(subscription.state.upper(), key_type)) is not None:
        return denial
    if is_blocked(entitlements, api_uuid):
        return Denial.API_BLOCKED
    tiers = _tiers(entitlements, application, subscription)
    return Grant(
        Application(
            name=application.name,
            id=application.id,
            uuid=application.uuid,
            tier=tiers.application,
            owner=application.owner,
            by_bytes=tiers.by_bytes,
            attributes=tuple(sorted(application.attributes.items())),
        ),
        Subscription(
            tier=subscription.tier,
            stop_on_quota=tiers.stop_on_quota,
            publisher=api.provider,
            tenant=tenant,
        ),
        key_type,
    )


def is_blocked(entitlements: Entitlements, api_uuid: str) -> bool:
    """Return whether the control plane has blocked an API."""
    api = entitlements.apis.get(api_uuid)
    return api is not None and api.status.upper() == "BLOCKED"


def policy(entitlements: Entitlements, level: PolicyLevel, name: str) -> PolicyRow | None:
    """Find a policy by its name."""
    ids = entitlements.policies_by_name.get((level, name))
    return entitlements.policies.get((level, ids[-1])) if ids else None


def _denied(state: str, key_type: str) -> Denial | None:
    if state == "BLOCKED":
        return Denial.BLOCKED
    if state in ("ON_HOLD", "REJECTED"):
        return Denial.INACTIVE
    if state == "PROD_ONLY_BLOCKED" and key_type != "SANDBOX":
        return Denial.BLOCKED
    return None


class _Tiers(NamedTuple):
    application: str
    by_bytes: bool
    stop_on_quota: bool


def _tiers(
    entitlements: Entitlements, application: ApplicationRow, subscription: SubscriptionRow
) -> _Tiers:
    """Read the policies; without its policy a tier stops at its quota (control-plane §5)."""
    name = application.tier or "Unlimited"
    bought = policy(entitlements, "subscription", subscription.tier)
    shared = policy(entitlements, "application", name)
    by_bytes = any(one is not None and one.quota == "bandwidthVolume" for one in (bought, shared))
    return _Tiers(name, by_bytes, bought is None or bought.stop_on_quota)
