"""The lifecycle of an API: its state, and the steps to others (spec: portal §2.9)."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.config import lifecycle
from trio_gw.config.lifecycle import State  # noqa: TC001 - needed to decode a request
from trio_gw.errors import UnusableError
from trio_gw.feed.revisions import LifecycleStep, StepError
from trio_gw.portal.audit import audit
from trio_gw.portal.deployments import busy
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
    if asked.state == "RETIRED" and asked.confirm not in (api.title, api.title.partition(":")[0]):
        raise FaultError(422, "type the name of the API as `confirm` to retire it")
    step = LifecycleStep(
        asked.state,
        request.caller.user,
        " ".join(asked.successor.split())[:MOST_SUCCESSOR],
        read_sunset(asked.sunset),
    )
    before = revisions.state_of(api)
    try:
        converged = await revisions.set_state(api, step)
    except StepError as error:
        raise FaultError(409, str(error)) from None
    except UnusableError as error:
        raise FaultError(500, error.problems[0].what) from None
    except TimeoutError:
        raise busy() from None
    except OSError as error:
        message = f"the state cannot be stored: {os.strerror(error.errno or 0)}"
        raise FaultError(500, message) from None
    await audit(
        request,
        "lifecycle",
        api.title,
        state=asked.state,
        before="" if before is None else before.state,
        successor=step.successor,
        sunset=asked.sunset,
    )
    if not converged:
        raise FaultError(503, "the state is set, but some workers do not follow yet")


def facts(request: PortalRequest, api: KnownApi) -> dict[str, Any]:
    """Describe the state of an API for JSON and its page."""
    revisions = request.services.context.deployer.revisions
    state, project = revisions.state_of(api), revisions.source_project(api)
    declared = "" if project is None else project.lifecycle
    now = state.state if state is not None else lifecycle.known(declared)
    return {
        "id": api.id,
        "api": api.title,
        "state": now,
        "acts": state is not None,
        "declared": declared,
        "since": state.at if state else None,
        "user": state.user if state else "",
        "successor": state.successor if state else "",
        "sunset": (state.sunset or None) if state else None,
        "steps": list(revisions.steps(api)),
    }


def read_sunset(text: str) -> int:
    """Read a date (its begin in UTC) or a time. Returns 0 for no text. Raises `FaultError` 422."""
    if not text:
        return 0
    try:
        when = datetime.datetime.fromisoformat(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=datetime.UTC)
        seconds = int(when.timestamp())
    except (ValueError, OverflowError):
        seconds = 0
    if seconds <= 0:
        raise FaultError(422, f"not a date such as 2027-06-30: {text[:40]!r}")
    return seconds


ROUTES = (
    PortalRoute("GET", "/api/apis/{id}/lifecycle", Role.PUBLISHER, show),
    PortalRoute("PUT", "/api/apis/{id}/lifecycle", Role.PUBLISHER, change, writes=True),
)
