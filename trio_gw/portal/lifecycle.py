"""The lifecycle of an API: its state, and the steps to others (spec: portal §2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.admin.json_responses import json_response
from trio_gw.admin.managing import lifecycle_facts, read_sunset, take_step
from trio_gw.config.lifecycle import State  # noqa: TC001 - needed to decode a request
from trio_gw.feed.revisions import LifecycleStep
from trio_gw.portal.audit import audit
from trio_gw.portal.known_apis import find_known
from trio_gw.portal.routes import PortalRoute, Role

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.feed.revisions import KnownApi
    from trio_gw.portal.request import PortalRequest

MOST_SUCCESSOR = 200  # characters


class StateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state to set. `sunset` is a date or a time; `confirm` the name of an API to retire."""

    state: State
    successor: str = ""
    sunset: str = ""
    confirm: str = ""


async def show(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/lifecycle`: the state, who set it, and the steps from it."""
    return json_response(facts(request, await find_known(request)))


async def change(request: PortalRequest) -> Response:
    """`PUT /portal/api/apis/{id}/lifecycle`: set the state, and answer when all workers act."""
    asked = await request.body(StateRequest)
    api = await find_known(request)
    await set_state(request, api, asked)
    return json_response(facts(request, api))


async def set_state(request: PortalRequest, api: KnownApi, asked: StateRequest) -> None:
    """Take the step that was asked for, and note it. Raises `FaultError`."""
    revisions = request.services.context.deployer.revisions
    step = LifecycleStep(
        asked.state,
        request.caller.user,
        " ".join(asked.successor.split())[:MOST_SUCCESSOR],
        read_sunset(asked.sunset),
    )
    before = revisions.state_of(api)
    await take_step(revisions, api, step, asked.confirm)
    await audit(
        request,
        "lifecycle",
        api.title,
        state=asked.state,
        before="" if before is None else before.state,
        successor=step.successor,
        sunset=asked.sunset,
    )


def facts(request: PortalRequest, api: KnownApi) -> dict[str, Any]:
    """Describe the state of an API for JSON and its page."""
    return lifecycle_facts(request.services.context.deployer.revisions, api)


ROUTES = (
    PortalRoute("GET", "/api/apis/{id}/lifecycle", Role.PUBLISHER, show),
    PortalRoute("PUT", "/api/apis/{id}/lifecycle", Role.PUBLISHER, change, writes=True),
)
