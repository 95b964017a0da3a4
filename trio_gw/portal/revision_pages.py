"""The pages with the revisions of an API: the list, one against another, roll back, undeploy.

spec: portal §2.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_gw.admin.json_responses import FaultError
from trio_gw.admin.managing import row
from trio_gw.portal.deployments import DeploymentRequest, perform, refusal_of, remove
from trio_gw.portal.forms import read_form, see_other
from trio_gw.portal.known_apis import find_known
from trio_gw.portal.managed_header import managed_header, open_now
from trio_gw.portal.render import page
from trio_gw.portal.revisions import difference, read_number, usual_other
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_address

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.errors import Problem
    from trio_gw.feed.revisions import KnownApi
    from trio_gw.portal.request import PortalRequest


async def show_all(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/revisions`: the list, where it is served, and undeploying."""
    return await _list(request, await find_known(request))


async def show_unserved(request: PortalRequest) -> Response:
    """`GET /portal/unserved`: the APIs that are retired, or undeployed with revisions left."""
    found = await request.services.context.deployer.revisions.unserved()
    return await page(request, "unserved.html", title="APIs that are not served", found=found)


async def show_one(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/revisions/{n}?with=`: what differs, and rolling back."""
    api = await find_known(request)
    return await _one(request, api, read_number(request.params["n"]))


async def roll_back(request: PortalRequest) -> Response:
    """`POST /portal/apis/{id}/revisions/{n}`: deploy an old revision anew."""
    api = await find_known(request)
    number = read_number(request.params["n"])
    fields = await read_form(request)
    asked = DeploymentRequest(
        revision=number, api=api.id, note=fields.get("note", ""), override=True
    )
    outcome = await perform(request, asked, fields.get("tag", ""))
    if outcome.status != "deployed" or outcome.revision is None:
        fault = FaultError(*refusal_of(outcome))
        return await _one(request, api, number, fault, outcome.problems)
    done = f"r{outcome.revision.number}"
    return see_other(_address(request, api), done=done)


async def undeploy(request: PortalRequest) -> Response:
    """`POST /portal/apis/{id}/undeploy`: from one host or all, or only the deployed copy."""
    api = await find_known(request)
    fields = await read_form(request)
    if fields.get("confirm") != "yes":
        raise FaultError(422, "tick that you want to undeploy the API")
    host, copy = fields.get("host", ""), fields.get("what") == "copy"
    try:
        await remove(request, api, host, copy=copy)
    except FaultError as fault:
        return await _list(request, api, fault)
    return see_other(_address(request, api), done="undeployed")


def _address(request: PortalRequest, api: KnownApi) -> str:
    return api_address(api.id, request.query.get("host", ""), "revisions")


async def _list(request: PortalRequest, api: KnownApi, fault: FaultError | None = None) -> Response:
    revisions, settings = request.services.context.deployer.revisions, request.services.settings
    listed = [row(each) for each in await revisions.listed(api)]
    done = request.query.get("done", "")
    values: dict[str, Any] = {
        "rows": listed,
        "hosts": list(dict.fromkeys(host for each in listed for host in each["live"])),
        "keep": settings.portal.revisions,
        "replaced": revisions.replaced(api),
        "tag": revisions.tag(api),
        "open": await open_now(request, api),
        "evict": settings.evict,
        "fault": fault,
        "done": done if done == "undeployed" or done[1:].isdecimal() else "",
    }
    header = await managed_header(request, api, "revisions")
    status = 200 if fault is None else fault.status
    title = f"Revisions of {api.title}"
    return await page(request, "revisions.html", title=title, status=status, api=header, **values)


async def _one(
    request: PortalRequest,
    api: KnownApi,
    number: int,
    fault: FaultError | None = None,
    problems: tuple[Problem, ...] = (),
) -> Response:
    revisions = request.services.context.deployer.revisions
    listed = [row(each) for each in await revisions.listed(api)]
    this = next((each for each in listed if each["number"] == number), None)
    if this is None:
        raise FaultError(404, f"{api.title} has no revision r{number}, or not any more")
    given = request.query.get("with", "")
    current = revisions.current(api)
    if given:
        other = read_number(given)
    elif current is not None and current.number != number:
        other = current.number
    else:
        other = await usual_other(request, api, number)
    values: dict[str, Any] = {
        "this": this,
        "other": other,
        "others": [each for each in listed if each["number"] != number],
        "files": [] if other == number else await difference(request, api, number, other),
        "current": current.number if current else None,
        "tag": revisions.tag(api),
        "open": await open_now(request, api),
        "fault": fault,
        "problems": problems,
    }
    header = await managed_header(request, api, "revisions")
    status = 200 if fault is None else fault.status
    title = f"r{number} of {api.title}"
    return await page(request, "revision.html", title=title, status=status, api=header, **values)


ROUTES = (
    PortalRoute("GET", "/unserved", Role.PUBLISHER, show_unserved, Kind.PAGE),
    PortalRoute("GET", "/apis/{id}/revisions", Role.PUBLISHER, show_all, Kind.PAGE),
    PortalRoute("GET", "/apis/{id}/revisions/{n}", Role.PUBLISHER, show_one, Kind.PAGE),
    PortalRoute(
        "POST", "/apis/{id}/revisions/{n}", Role.PUBLISHER, roll_back, Kind.FORM, writes=True
    ),
    PortalRoute("POST", "/apis/{id}/undeploy", Role.PUBLISHER, undeploy, Kind.FORM, writes=True),
)
