"""The credential schemes, one function each, and the order in which they are tried.

Called by `proxy.admission` once per handshake (spec: security §1, §2). A scheme returns the
verified `Caller`, or the reason why it does not apply to this request, or raises a `Refusal`. The
first success ends the search; without one, the client gets the first refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.errors import Refusal
from trio_gw.guard import apikeys, refusals
from trio_gw.guard.caller import Application, Caller, Subscription, anonymous, member
from trio_gw.guard.credentials import Presented
from trio_gw.guard.entitlement import Denial, Grant, find, is_blocked
from trio_gw.guard.tokens import API_KEY, INTERNAL_KEY, MAX_TOKEN, Tokens, Verified

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.entitlements import Entitlements
    from trio_gw.guard.introspection import Introspection
    from trio_gw.guard.revocations import Revocations


class AccessPolicy(NamedTuple):
    """What one topic requires of its callers, and the API it belongs to."""

    topic: str
    api: str = ""
    version: str = ""
    base_path: str = ""
    api_uuid: str = ""
    secured: bool = True
    scopes: tuple[str, ...] | None = None
    oauth2: bool = True
    api_key: bool = False


class Handshake(msgspec.Struct, frozen=True):
    """One handshake: its time (epoch seconds), its address and its credentials."""

    now: float
    address: str = ""
    presented: Presented = Presented()
    referers: tuple[bytes, ...] = ()


class Verifiers(NamedTuple):
    """What verifies credentials.

    `internal_key` and `api_key` name the issuers of these keys; empty if they are off.
    `entitlements` returns the current ones: those of the control plane, for `tenant`, or those of
    the registry of applications; None without either. Then `registered` names the issuer of the
    registry's tokens: their subscriptions must be in force, too, not only in the token.
    """

    tokens: Tokens
    revocations: Revocations
    introspection: Introspection | None = None
    internal_key: str = ""
    api_key: str = ""
    entitlements: Callable[[], Entitlements] | None = None
    tenant: str = ""
    registered: str = ""


async def authenticate(guard: Verifiers, demand: AccessPolicy, visit: Handshake) -> Caller:
    """Return the caller, or raise the Refusal to answer with (spec: security §6)."""
    if not demand.secured:
        _check_not_blocked(guard, demand)
        return anonymous(visit.address)
    reasons: list[str] = []
    first: Refusal | None = None
    for scheme in (internal_key, oauth2, api_key):
        try:
            found = await scheme(guard, demand, visit)
        except Refusal as refusal:
            first = first or refusal
        else:
            if isinstance(found, Caller):
                return found
            reasons.append(found)
    raise first or refusals.no_credential("; ".join(filter(None, reasons)))


async def internal_key(guard: Verifiers, demand: AccessPolicy, visit: Handshake) -> Caller | str:
    """Take a test-console token (spec: security §4)."""
    values = visit.presented.internal_key
    if not guard.internal_key or not values:
        return ""
    if len(values) > 1 or not _has_three_parts(values[0]):
        return "no usable Internal-Key"
    found = await guard.tokens.verify(
        values[0].strip(), visit.now, INTERNAL_KEY, guard.internal_key
    )
    _check_not_revoked(guard, found.caller)
    # The API that the token was made for; its tiers are ignored (security §4).
    if (demand.base_path, demand.version) not in found.carried.by_context:
        raise refusals.forbidden("the Internal-Key is for another API")
    _check_not_blocked(guard, demand)
    return msgspec.structs.replace(
        found.caller,
        application=Application("internal-key-app"),
        subscription=Subscription("Unlimited"),
    )


async def oauth2(guard: Verifiers, demand: AccessPolicy, visit: Handshake) -> Caller | str:
    """Take a bearer token (spec: security §3)."""
    token = _bearer(visit.presented.bearer)
    if isinstance(token, str):
        return token
    if demand.scopes is not None and not demand.oauth2:
        return "the topic has scopes, but its API no oauth2 scheme"
    if _has_three_parts(token):
        found = await guard.tokens.verify(token, visit.now)
    elif guard.introspection is not None:
        found = await guard.introspection.verify(token, visit.now)
    else:
        return "not three parts"
    _check_not_revoked(guard, found.caller)
    validated = found.issuer.validate_subscription
    caller = _subscribed(guard, found, demand) if validated else found.caller
    _check_not_blocked(guard, demand)
    if demand.scopes and caller.scopes.isdisjoint(demand.scopes):
        raise refusals.out_of_scope(demand.topic)
    return caller


async def api_key(guard: Verifiers, demand: AccessPolicy, visit: Handshake) -> Caller | str:
    """Take an API key, which has no scopes but may be bound to addresses and pages."""
    values = visit.presented.api_key
    if not guard.api_key or not demand.api_key or not values:
        return ""
    if len(values[0]) > MAX_TOKEN or not _has_three_parts(values[0]):
        return "no usable API key"
    found = await guard.tokens.verify(values[0].strip(), visit.now, API_KEY, guard.api_key)
    _check_not_revoked(guard, found.caller)
    apikeys.check(found.caller.claims(), visit.address, visit.referers)
    caller = _subscribed(guard, found, demand)
    _check_not_blocked(guard, demand)
    return caller


def _check_not_revoked(guard: Verifiers, caller: Caller) -> None:
    if guard.revocations.covers(caller):
        raise refusals.revoked()


def _check_not_blocked(guard: Verifiers, demand: AccessPolicy) -> None:
    """Refuse all callers while the control plane blocks the API.

    The reference lets those through whose token carries subscriptions, or needs none.
    """
    if guard.entitlements is not None and is_blocked(guard.entitlements(), demand.api_uuid):
        raise refusals.api_blocked()


def _subscribed(guard: Verifiers, found: Verified, demand: AccessPolicy) -> Caller:
    """Find the subscription to this API: in the token, else in the entitlements (§3.5).

    For a token of the registry of applications: in both.
    """
    caller = found.caller
    if found.carried.declared:
        subscription = found.carried.by_name.get((demand.api, demand.version))
        if subscription is None:
            raise refusals.forbidden("the token's subscriptions are to other APIs")
        if not guard.registered or found.issuer.issuer != guard.registered:
            return msgspec.structs.replace(caller, subscription=subscription)
    if not caller.consumer_key:
        raise refusals.forbidden("the token names neither subscriptions nor a consumer key")
    if guard.entitlements is None:
        raise refusals.not_subscribed("the token carries no subscriptions")
    grant = find(
        guard.entitlements(),
        caller.consumer_key,
        caller.issuer_name,
        demand.api_uuid,
        guard.tenant,
        caller.issued_at,
    )
    if isinstance(grant, Denial):
        raise grant.refusal()
    return msgspec.structs.replace(
        caller,
        application=grant.application,
        subscription=grant.subscription,
        key_type=_key_type(found, grant),
        entitled=True,
    )


def _key_type(found: Verified, grant: Grant) -> str:
    """Return the type of the key: that of the token, if it says one, as in the reference."""
    caller, name = found.caller, found.issuer.claims.key_type
    if grant.key_type == caller.key_type or member(caller.claims(), name):
        return caller.key_type
    return grant.key_type


def _bearer(values: tuple[bytes, ...]) -> bytes | str:
    """Take the token out of the credential, or return why there is none (security §3.1)."""
    if len(values) != 1:
        return "no credential" if not values else "two credential headers"
    value = values[0]
    if len(value) > MAX_TOKEN:
        return "the credential is too long"
    pieces = value.split()
    if len(pieces) != 2 or not pieces[0].lower().startswith(b"bearer"):
        return "not a bearer credential"
    return pieces[1]


def _has_three_parts(value: bytes) -> bool:
    return value.strip().rstrip(b".").count(b".") == 2
