"""What the Traffic Manager and its decisions need to know of one connection.

Made at the handshake by `throttling`, kept by the session. spec: control-plane §8.2, §8.3.
"""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

from trio_gw.config.conditions import TENANT, user_name
from trio_gw.guard.condition_groups import HandshakeFacts
from trio_gw.guard.decisions import UNLIMITED, LevelTiers, ThrottleKeys
from trio_gw.wire.throttle_event import ThrottleSubject

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from trio_gw.guard.caller import Caller
    from trio_gw.guard.condition_groups import ConditionSettings
    from trio_gw.guard.decisions import Decided
    from trio_gw.guard.rate_limits import SessionLimiters
    from trio_gw.routing.route import Route
    from trio_gw.wire.head import RequestHead
    from trio_gw.wire.throttle_event import FrameTemplate

MAX_VALUES = 100  # headers or query parameters that conditions can look at
MAX_VALUE = 1024  # characters
_SECRET = frozenset((b"authorization", b"cookie", b"internal-key", b"apikey"))


class Throttle:
    """What decisions need to know of one connection, and what the last ones said."""

    __slots__ = (
        "closed",
        "custom",
        "decided",
        "facts",
        "keys",
        "limiters",
        "template",
        "tiers",
        "watched",
    )

    def __init__(
        self,
        limiters: SessionLimiters,
        keys: ThrottleKeys,
        tiers: LevelTiers,
        facts: HandshakeFacts,
        template: FrameTemplate,
    ) -> None:
        self.limiters = limiters
        self.keys, self.tiers, self.facts = keys, tiers, facts
        self.template = template
        self.custom: tuple[tuple[str, Decided], ...] = ()  # with its key
        self.decided: tuple[Decided, ...] = ()
        self.watched: tuple[str, ...] = ()
        self.closed = False


def keys_of(subject: ThrottleSubject, caller: Caller) -> ThrottleKeys:
    """Return the keys of a connection. A subscription counts if it stops on its quota."""
    subscription = subject.subscription_key if caller.subscription.stop_on_quota else ""
    return ThrottleKeys(subject.api_key, subscription, subject.app_key)


def facts_of(
    chosen: ConditionSettings,
    address: int,
    head: RequestHead,
    drop: frozenset[bytes],
    claims: Mapping[str, Any],
) -> HandshakeFacts:
    """Keep what conditions may ask for; no credentials. `drop` names headers that have some."""
    facts = HandshakeFacts(address)
    if chosen.headers:
        headers: dict[str, str] = {}
        for name, value in head.headers[:MAX_VALUES]:
            if name not in drop and name not in _SECRET:
                headers.setdefault(name.decode("latin-1"), value[:MAX_VALUE].decode("latin-1"))
        facts.headers = headers.get
    if chosen.query:
        first = "&".join(head.query.split("&", MAX_VALUES)[:MAX_VALUES])
        pairs = urllib.parse.parse_qsl(first)
        facts.query = {name: value[:MAX_VALUE] for name, value in pairs}.get
    if chosen.claims:
        facts.claims = {
            name: str(value)[:MAX_VALUE]
            for name, value in claims.items()
            if isinstance(value, (str, int, float))
        }.get
    return facts


def subject_of(request_id: str, route: Route, caller: Caller) -> ThrottleSubject:
    """Name a connection as the reference does (spec: control-plane §8.2)."""
    api, application, subscription = route.api, caller.application, caller.subscription
    api_key = f"{api.base_path}:{api.version}"
    api_tier = api.tier or UNLIMITED
    user = user_name(caller.subject, subscription.tenant)
    tenant = api.context.split("/")[2] if api.context.startswith("/t/") else TENANT
    return ThrottleSubject(
        message_id=request_id,
        app_key=f"{application.id}:{user}",
        app_tier=application.tier or UNLIMITED,
        api_key=api_key,
        api_tier=api_tier,
        subscription_key=f"{application.id}:{api_key}",
        subscription_tier=subscription.tier,
        resource_key=api_key,
        resource_tier=api_tier,
        user_id=user,
        api_context=api.base_path,
        api_version=api.version,
        app_tenant=subscription.tenant or TENANT,
        api_tenant=tenant,
        app_id=application.id,
        api_name=api.name,
    )


def variables_of(
    subject: ThrottleSubject, address: int, claims: Mapping[str, Any]
) -> dict[str, str]:
    """Return what the templates of custom policies may name. Claims are their properties."""
    variables = {
        "resourceKey": subject.resource_key,
        "userId": subject.user_id,
        "apiContext": subject.api_context,
        "apiVersion": subject.api_version,
        "appTenant": subject.app_tenant,
        "apiTenant": subject.api_tenant,
        "appId": subject.app_id,
        "clientIp": str(address),
    }
    for name, value in claims.items():
        if isinstance(value, str):
            variables[f"customProperty.{name}"] = value[:MAX_VALUE]
    return variables
