"""The pages of applications: the list, one application, and how to subscribe to an API.

They work by links and forms. Scripts only make keys, whose secrets are shown once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from starlette.responses import RedirectResponse

from trio_gw.admin.json_responses import FaultError
from trio_gw.config.registry import KEY_TYPES, LONGEST_TOKEN, SHORTEST_TOKEN, STATES
from trio_gw.guard.roles import Role
from trio_gw.portal.application_facts import application_facts, subscription_facts, tier_facts
from trio_gw.portal.application_keys import token_url
from trio_gw.portal.application_store import add, find_own, source_of, visible
from trio_gw.portal.application_subscriptions import (
    DEFAULT_TIER,
    closed_because,
    subscribable,
    subscribe,
    subscribers_of,
    unsubscribe,
)
from trio_gw.portal.applications import SIZE, ApplicationChange, drop, matching, number, update
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute
from trio_gw.portal.served_apis import api_header, find_api, served_apis

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest

MAX_FORM = 16 << 10  # bytes
FIRST_NAME = "My application"  # of one that is made with a first subscription
LISTED = 200  # subscribers of a page


async def show_list(request: PortalRequest) -> Response:
    """`GET /portal/applications`: the own applications; administrators see all."""
    found = matching(request)
    at = number(request, "page", 1)
    pages = max(1, -(-len(found) // SIZE))
    rows = found[(at - 1) * SIZE : at * SIZE]
    return await page(
        request,
        "applications.html",
        title="Applications",
        applications=[application_facts(request, one) for one in rows],
        total=len(found),
        page=at,
        pages=pages,
        q=request.query.get("q", ""),
        tiers=tier_facts(request),
        absent=_absent(request),
    )


async def create(request: PortalRequest) -> Response:
    """`POST /portal/applications`: add one."""
    fields = await read_form(request)
    tier = fields.get("tier", DEFAULT_TIER)
    name, description = fields.get("name", "").strip(), fields.get("description", "").strip()
    made = await add(request, name, description, tier)
    return RedirectResponse(f"/portal/applications/{made.uuid}", 303)


async def show(request: PortalRequest) -> Response:
    """`GET /portal/applications/{uuid}`: keys, subscriptions, and what can be changed."""
    application = await find_own(request)
    facts = application_facts(request, application)
    served = await served_apis(request.services)
    scopes = {
        scope
        for one in application.subscriptions
        for each in served.by_id.get(one.api, ())
        for topic in each.project.topics
        for scope in topic.scopes or ()
    }
    return await page(
        request,
        "application.html",
        title=application.name,
        application=facts,
        scopes=sorted(scopes),
        key_types=KEY_TYPES,
        tiers=tier_facts(request),
        token_url=token_url(request),
        least=SHORTEST_TOKEN,
        most=LONGEST_TOKEN,
        changeable=not request.services.ruled,
    )


async def edit(request: PortalRequest) -> Response:
    """`POST /portal/applications/{uuid}`: change name, description and tier."""
    fields = await read_form(request)
    application = await find_own(request)
    asked = ApplicationChange(
        fields.get("name", application.name).strip(),
        fields.get("description", "").strip(),
        fields.get("tier"),
    )
    await update(request, application, asked)
    return RedirectResponse(f"/portal/applications/{application.uuid}", 303)


async def remove(request: PortalRequest) -> Response:
    """`POST /portal/applications/{uuid}/remove`: remove it; its name must be typed."""
    fields = await read_form(request)
    application = await find_own(request)
    if fields.get("confirm", "").strip() != application.name:
        raise FaultError(422, "type the name of the application to remove it")
    await drop(request, application)
    return RedirectResponse("/portal/applications", 303)


async def change_subscription(request: PortalRequest) -> Response:
    """`POST /portal/applications/{uuid}/subscriptions/{api}`: another tier, or unsubscribe."""
    fields = await read_form(request)
    application, api = await find_own(request), request.params["api"]
    if fields.get("do") == "remove":
        await unsubscribe(request, application, api)
    else:
        await subscribe(request, application, api, tier=fields.get("tier"))
    return RedirectResponse(f"/portal/applications/{application.uuid}#subscriptions", 303)


async def show_subscribe(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/subscribe`: choose an application; publishers see all subscribers."""
    api = await find_api(request)
    own = [one for one in visible(request) if one.owner == request.caller.user]
    subscribed = [
        (application_facts(request, one), subscription_facts(request, found))
        for one in own
        if (found := one.subscription(api.project.id)) is not None
    ]
    publishes = request.caller.role >= Role.PUBLISHER and not _absent(request)
    others = subscribers_of(request, api.project.id) if publishes else []
    managed = getattr(api.project, "managed", None) is not None
    return await page(
        request,
        "subscribe.html",
        title=f"Subscribe to {api.project.title}",
        api=await api_header(request, api, "subscribe"),
        closed=closed_because(api.state, managed=managed),
        applications=[one for one in own if one.subscription(api.project.id) is None],
        has_applications=bool(own),
        subscribed=subscribed,
        first_name=FIRST_NAME,
        tiers=tier_facts(request),
        chosen=DEFAULT_TIER,
        publishes=publishes,
        subscribers=others[:LISTED],
        subscribers_total=len(others),
        states=STATES,
        absent=_absent(request),
    )


async def subscribe_by_form(request: PortalRequest) -> Response:
    """`POST /portal/apis/{id}/subscribe`: subscribe an application, making one on the way.

    Without `application` it is the only one of the caller, or a new one; with several the page
    asks which.
    """
    fields = await read_form(request)
    api = request.params["id"]
    await subscribable(request, api)  # before an application is made in vain
    wanted, tier = fields.get("application", ""), fields.get("tier", DEFAULT_TIER)
    own = [one for one in visible(request) if one.owner == request.caller.user]
    if not wanted and len(own) > 1:
        return RedirectResponse(f"/portal/apis/{quote(api, safe='')}/subscribe", 303)
    if wanted == "new" or not (wanted or own):
        name = fields.get("name", "").strip() or FIRST_NAME
        application = await add(request, name, "", DEFAULT_TIER)
    else:
        application = await find_own(request, wanted or own[0].uuid)
    await subscribe(request, application, api, tier=tier)
    return RedirectResponse(f"/portal/applications/{application.uuid}", 303)


async def set_state(request: PortalRequest) -> Response:
    """`POST /portal/apis/{id}/subscribers/{uuid}`: a publisher blocks a subscription, or not."""
    fields = await read_form(request)
    api, current = request.params["id"], source_of(request).registry
    application = current.applications.get(request.params["uuid"])
    state = next((one for one in STATES if one == fields.get("state")), None)
    if application is None or application.subscription(api) is None:
        raise FaultError(404, "there is no such subscription")
    if state is None:
        raise FaultError(422, "there is no such state")
    await subscribe(request, application, api, state=state)
    return RedirectResponse(f"/portal/apis/{quote(api, safe='')}/subscribe#subscribers", 303)


async def read_form(request: PortalRequest) -> dict[str, str]:
    """Read the fields of a form; of several with one name the last."""
    body = await request.read(MAX_FORM)
    try:
        text = body.decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=50, errors="strict"))
    except ValueError:
        raise FaultError(400, "the form cannot be read") from None


def _absent(request: PortalRequest) -> bool:
    """Return whether this gateway has no applications of its own, though nobody else rules."""
    services = request.services
    return services.context.aggregate.worker_status.registry is None and not services.ruled


ROUTES = (
    PortalRoute("GET", "/applications", Role.CONSUMER, show_list, Kind.PAGE),
    PortalRoute("POST", "/applications", Role.CONSUMER, create, Kind.FORM, writes=True),
    PortalRoute("GET", "/applications/{uuid}", Role.CONSUMER, show, Kind.PAGE),
    PortalRoute("POST", "/applications/{uuid}", Role.CONSUMER, edit, Kind.FORM, writes=True),
    PortalRoute(
        "POST", "/applications/{uuid}/remove", Role.CONSUMER, remove, Kind.FORM, writes=True
    ),
    PortalRoute(
        "POST",
        "/applications/{uuid}/subscriptions/{api}",
        Role.CONSUMER,
        change_subscription,
        Kind.FORM,
        writes=True,
    ),
    PortalRoute("GET", "/apis/{id}/subscribe", Role.CONSUMER, show_subscribe, Kind.PAGE),
    PortalRoute(
        "POST", "/apis/{id}/subscribe", Role.CONSUMER, subscribe_by_form, Kind.FORM, writes=True
    ),
    PortalRoute(
        "POST", "/apis/{id}/subscribers/{uuid}", Role.PUBLISHER, set_state, Kind.FORM, writes=True
    ),
)
