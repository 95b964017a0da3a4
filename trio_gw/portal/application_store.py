"""The registry of applications, as requests to the portal see and change it.

People who are no administrators see their own applications only: another one is not found.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from typing import TYPE_CHECKING

from trio_gw.admin.json_responses import FaultError
from trio_gw.config import registry as values
from trio_gw.config import registry_changes as changes
from trio_gw.config.registry import (
    STATES,
    ApiSubscription,
    ConsumerKey,
    RegisteredApplication,
    Registry,
)
from trio_gw.config.registry_changes import ChangeError
from trio_gw.config.tiers import known
from trio_gw.errors import UnusableError
from trio_gw.guard.roles import Role
from trio_gw.portal.audit import audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.entitlements import Entitlements
    from trio_gw.config.registry import KeyType, SubscriptionState
    from trio_gw.feed.registry_source import RegistrySource
    from trio_gw.portal.audit import Fact
    from trio_gw.portal.request import PortalRequest

log = logging.getLogger("trio_gw.applications")

_STATUS = {"missing": 404, "conflict": 409, "invalid": 422}
ABSENT = "this gateway has no applications of its own"


def source_of(request: PortalRequest) -> RegistrySource:
    """Return the registry. Raises `FaultError` 409 if this gateway has none."""
    found = request.services.context.aggregate.worker_status.registry
    if found is None:
        raise FaultError(409, ABSENT)
    return found


def registry_of(request: PortalRequest) -> Registry:
    """Return the current registry: that of API Manager where it rules; empty if there is none."""
    if request.services.ruled:
        return _ruled(request.services.context.live.entitlements)
    found = request.services.context.aggregate.worker_status.registry
    return values.NOTHING if found is None else found.registry


def _ruled(entitlements: Entitlements) -> Registry:
    if not _shown or _shown[0][0] is not entitlements:
        _shown[:] = [(entitlements, ruled_registry(entitlements))]
    return _shown[0][1]


_shown: list[tuple[Entitlements, Registry]] = []  # the last one, while nothing changes


def ruled_registry(entitlements: Entitlements) -> Registry:
    """Show the applications of a control plane as those of a registry."""
    keys: dict[str, dict[KeyType, ConsumerKey]] = {}
    for mapping in entitlements.key_mappings.values():
        kind: KeyType = "SANDBOX" if mapping.key_type.upper() == "SANDBOX" else "PRODUCTION"
        own = keys.setdefault(mapping.application_uuid, {})
        own[kind] = ConsumerKey(mapping.consumer_key, "", 0)
    subscriptions: dict[str, list[ApiSubscription]] = {}
    for one in entitlements.subscriptions.values():
        api = entitlements.apis.get(one.api_uuid)
        named = ("", "", "") if api is None else (api.name, api.version, api.context)
        states = (state for state in STATES if state == one.state.upper())
        state: SubscriptionState = next(states, "BLOCKED")
        made = ApiSubscription(one.id, one.api_uuid, *named, tier=one.tier, state=state)
        subscriptions.setdefault(one.application_uuid, []).append(made)
    return Registry(
        applications={
            row.uuid: RegisteredApplication(
                row.uuid,
                int(row.id) if row.id.isascii() and row.id.isdigit() else 0,
                row.name,
                row.owner,
                tier=row.tier,
                keys=keys.get(row.uuid, {}),
                subscriptions=tuple(subscriptions.get(row.uuid, ())),
            )
            for row in entitlements.applications.values()
        }
    )


def is_own(request: PortalRequest, application: RegisteredApplication) -> bool:
    """Return whether the caller may change an application."""
    caller = request.caller
    return caller.role >= Role.ADMIN or (bool(caller.user) and application.owner == caller.user)


async def find_own(request: PortalRequest, number: str = "") -> RegisteredApplication:
    """Find the application of the path, as it is on disk now. Raises `FaultError` 404."""
    wanted = number or request.params["uuid"]
    if request.services.ruled:
        found = _ruled(request.services.context.live.entitlements).applications.get(wanted)
    else:
        found = (await source_of(request).fresh()).applications.get(wanted)
    if found is None or not is_own(request, found):
        raise FaultError(404, "there is no such application")
    return found


def visible(request: PortalRequest) -> list[RegisteredApplication]:
    """List the applications that the caller may see, by name."""
    current = registry_of(request)
    if request.caller.role >= Role.ADMIN:
        found = list(current.applications.values())
    else:
        found = list(current.owned(request.caller.user))
    return sorted(found, key=lambda one: (one.name.casefold(), one.id))


async def change(
    request: PortalRequest,
    make: Callable[[Registry, int], Registry],
    action: str,
    target: str,
    **facts: Fact,
) -> Registry:
    """Change the registry, and return when all workers follow; the change is audited.

    `make` gets the registry and the time. Raises `FaultError`.
    """
    source, now = source_of(request), int(time.time())
    try:
        after = await source.change(lambda current: make(current, now))
    except ChangeError as error:
        raise FaultError(_STATUS[error.why], str(error)) from None
    except UnusableError as error:
        message = "the registry of applications cannot be used, so nothing was changed"
        raise FaultError(503, message, problems=error.problems) from None
    except TimeoutError:
        raise FaultError(
            503, "other changes take too long, try again", headers={"Retry-After": "1"}
        ) from None
    except OSError as error:
        message = f"the change cannot be stored: {os.strerror(error.errno or 0)}"
        raise FaultError(500, message) from None
    if missing := await request.services.context.aggregate.refresh_registry():
        log.warning("workers %s follow a change of applications later", missing)
    await audit(request, action, target, **facts)
    return after


async def add(
    request: PortalRequest, name: str, description: str, tier: str
) -> RegisteredApplication:
    """Register an application of the caller."""
    check_tier(request, tier)
    number = str(uuid.uuid4())
    user = request.caller.user
    after = await change(
        request,
        lambda current, now: changes.add(
            current, number, user, name, description=description, tier=tier, now=now
        ),
        "application-add",
        name,
        uuid=number,
        tier=tier,
    )
    return after.applications[number]


def check_tier(request: PortalRequest, name: str | None) -> None:
    """Raise `FaultError` 422 if there is no such tier."""
    if name is not None and name not in known(request.services.settings.tiers):
        raise FaultError(422, f"there is no tier {name[:80]!r}; see /portal/api/tiers")
