"""Subscriptions of applications to APIs: who may subscribe to what, and the endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.admin.json_responses import FaultError, empty_response, json_response
from trio_gw.config import registry_changes as changes
from trio_gw.config.registry import SubscriptionState  # noqa: TC001 - needed to decode a request
from trio_gw.config.registry_changes import SubscribedApi
from trio_gw.guard.roles import Role
from trio_gw.portal.application_facts import subscription_facts
from trio_gw.portal.application_store import change, check_tier, find_own, is_own, source_of
from trio_gw.portal.routes import PortalRoute
from trio_gw.portal.served_apis import is_visible, served_apis

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.config.registry import ApiSubscription, RegisteredApplication, Registry
    from trio_gw.portal.request import PortalRequest

DEFAULT_TIER = "Unlimited"
# Why an API in a state takes no new subscription.
_CLOSED = {
    "CREATED": "it is not published yet",
    "PROTOTYPED": "it is a prototype, which needs no subscription",
    "BLOCKED": "it is blocked",
    "DEPRECATED": "it is deprecated",
    "RETIRED": "it is retired",
}


class SubscriptionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tier of a subscription, and its state, which only publishers may set."""

    tier: str | None = None
    state: SubscriptionState | None = None


class Subscriber(NamedTuple):
    """A subscription with its application."""

    application: RegisteredApplication
    subscription: ApiSubscription


async def put(request: PortalRequest) -> Response:
    """`PUT …/subscriptions/{api}`: subscribe, or change a subscription."""
    asked = await request.body(SubscriptionRequest)
    current = await source_of(request).fresh()
    application = current.applications.get(request.params["uuid"])
    publishes = request.caller.role >= Role.PUBLISHER
    if application is None or not (is_own(request, application) or publishes):
        raise FaultError(404, "there is no such application")
    api = request.params["api"]
    if asked.state is not None and not publishes:
        raise FaultError(403, "only publishers set the state of a subscription")
    if not is_own(request, application) and (
        asked.tier is not None or application.subscription(api) is None
    ):
        raise FaultError(403, "of subscriptions of others only the state can be set")
    made = await subscribe(request, application, api, tier=asked.tier, state=asked.state)
    status = 200 if application.subscription(api) else 201
    return json_response(subscription_facts(request, made), status)


async def remove(request: PortalRequest) -> Response:
    """`DELETE …/subscriptions/{api}`: unsubscribe; connections to the API end."""
    await unsubscribe(request, await find_own(request), request.params["api"])
    return empty_response(204)


async def subscribers(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/subscriptions`: who is subscribed to an API."""
    found = subscribers_of(request, request.params["id"])
    rows = [
        {
            "application": {"uuid": app.uuid, "name": app.name, "owner": app.owner},
            **subscription_facts(request, one),
        }
        for app, one in found
    ]
    return json_response({"total": len(rows), "items": rows[:MOST_LISTED]})


MOST_LISTED = 1000


async def subscribe(
    request: PortalRequest,
    application: RegisteredApplication,
    api: str,
    *,
    tier: str | None = None,
    state: SubscriptionState | None = None,
) -> ApiSubscription:
    """Subscribe an application to an API, or change its subscription. Raises `FaultError`."""
    check_tier(request, tier)
    existing = application.subscription(api)
    if existing is None:
        wanted = await subscribable(request, api)
    else:
        wanted = SubscribedApi(api, existing.name, existing.version, existing.context)

    def make(current: Registry, now: int) -> Registry:
        return changes.subscribe(current, application.uuid, wanted, tier=tier, state=state, now=now)

    title = f"{wanted.name}:{wanted.version}"
    facts = {"uuid": application.uuid, "application": application.name, "tier": tier}
    after = await change(request, make, "subscribe", title, state=state, **facts)
    found = after.applications[application.uuid].subscription(api)
    assert found is not None
    return found


async def unsubscribe(request: PortalRequest, application: RegisteredApplication, api: str) -> None:
    """Take a subscription away."""
    existing = application.subscription(api)
    await change(
        request,
        lambda current, now: changes.unsubscribe(current, application.uuid, api, now=now),
        "unsubscribe",
        api if existing is None else existing.title,
        uuid=application.uuid,
        application=application.name,
    )


async def subscribable(request: PortalRequest, api: str) -> SubscribedApi:
    """Return the API to subscribe to. Raises `FaultError` 404, or 409 if its state forbids it."""
    everywhere = (await served_apis(request.services)).by_id.get(api, ())
    seen = [one for one in everywhere if is_visible(one.state, request.caller.role)]
    if not seen:
        raise FaultError(404, "there is no such API here, or it is not served any more")
    project, state = seen[0].project, seen[0].state
    if why := closed_because(state, managed=getattr(project, "managed", None) is not None):
        raise FaultError(409, f"{project.title} takes no subscriptions: {why}")
    return SubscribedApi(project.id, project.name, project.version, project.base_path)


def closed_because(state: str, *, managed: bool) -> str:
    """Return why an API in this state takes no new subscriptions; empty if it does.

    Projects dropped into a folder are often in the state CREATED though they are meant to be used:
    only a state that was set at the gateway bars publishers from the API.
    """
    if state == "CREATED" and not managed:
        return ""
    return _CLOSED.get(state, "")


def subscribers_of(request: PortalRequest, api: str) -> list[Subscriber]:
    """List the subscriptions to an API by the name of the application."""
    current = source_of(request).registry
    found = [
        Subscriber(application, one)
        for application in current.applications.values()
        if (one := application.subscription(api)) is not None
    ]
    return sorted(found, key=lambda each: each.application.name.casefold())


ROUTES = (
    PortalRoute(
        "PUT", "/api/applications/{uuid}/subscriptions/{api}", Role.CONSUMER, put, writes=True
    ),
    PortalRoute(
        "DELETE", "/api/applications/{uuid}/subscriptions/{api}", Role.CONSUMER, remove, writes=True
    ),
    PortalRoute("GET", "/api/apis/{id}/subscriptions", Role.PUBLISHER, subscribers),
)
