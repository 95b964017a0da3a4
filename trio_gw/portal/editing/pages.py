"""The pages of the editor: a new API, and the draft of an API (spec: portal §2.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio
from starlette.responses import RedirectResponse

from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.admin.upload import receive_upload
from trio_gw.config import tiers
from trio_gw.config.placement import vhosts
from trio_gw.feed.deployer import Author
from trio_gw.feed.origins import DEPLOYED
from trio_gw.portal.addresses import client_urls, host_name
from trio_gw.portal.audit import audit
from trio_gw.portal.editing.drafts import MOST_KEY
from trio_gw.portal.editing.served_files import read_base
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_address, api_header, find_api
from trio_gw.proxy import local_echo

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.config.api import ApiProject
    from trio_gw.portal.request import PortalRequest

QUEUE = 10.0  # seconds to wait for another upload
SOURCES = {
    "backend": "From a backend URL",
    "asyncapi": "From an AsyncAPI file",
    "nothing": "From nothing",
}


async def new_api(request: PortalRequest, *, first: bool = False) -> Response:
    """`GET /portal/new`: make an API. `first`: there is none yet, and this is the front page."""
    source = request.query.get("from", "backend")
    return await page(
        request,
        "new.html",
        title="Your first API" if first else "New API",
        first=first,
        sources=SOURCES,
        source=source if source in SOURCES else "backend",
        echo=local_echo.url(),
        urls=listener_urls(request),
    )


async def show_new(request: PortalRequest) -> Response:
    """`GET /portal/new`."""
    return await new_api(request)


async def edit_api(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/edit`: the draft of a served API."""
    api = await find_api(request)
    header = await api_header(request, api, "edit")
    deployer = request.services.context.deployer
    return await page(
        request,
        "edit.html",
        title=f"Edit {api.project.title}",
        api=header,
        key=draft_key(api.project),
        original=api.source == DEPLOYED and deployer.revisions.has_original(api.project),
    )


async def edit_new(request: PortalRequest) -> Response:
    """`GET /portal/new/edit`: the draft of an API that is not deployed yet."""
    return await page(request, "edit.html", title="New API", api=None, key="new", original=False)


def draft_key(project: ApiProject) -> str:
    """Return the key of the drafts of an API."""
    return f"{project.organization}/{project.id}"[:MOST_KEY]


async def source(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/source`: the files of an API that can be edited, and its tag."""
    project = (await find_api(request)).project
    services = request.services
    try:
        base = await services.in_thread(
            lambda: read_base(services.settings, services.base, project)
        )
    except OSError as error:
        raise FaultError(503, f"what is served cannot be read: {error.strerror}") from None
    if not base.shown:
        raise FaultError(409, "the files of this API are not at hand here")
    tag = services.context.deployer.revisions.tag(project)
    body = {"files": base.shown, "base": tag, "title": project.title, **choices(request)}
    return json_response(body, headers={"ETag": f'"{tag}"'})


async def blank_source(request: PortalRequest) -> Response:
    """`GET /portal/api/new`: what the form of a new API offers."""
    return json_response({"files": {}, "base": "", "title": "", **choices(request)})


def listener_urls(request: PortalRequest) -> list[str]:
    """Return the URLs of the listeners of clients, `{host}` for the host."""
    services = request.services
    host = host_name(request.http.headers.get("host", "localhost"))
    return client_urls(services.settings.portal, services.addresses, host)


def choices(request: PortalRequest) -> dict[str, object]:
    """Return what the form offers: tiers and environments of this gateway."""
    settings = request.services.settings
    known = tiers.known(settings.tiers)
    return {
        "tiers": {name: _numbers(tier) for name, tier in sorted(known.items())},
        "environments": vhosts(settings.known_environments),
    }


def _numbers(tier: tiers.Tier) -> str:
    """Spell out the numbers of a tier."""
    if not tier.limit:
        return "no limit"
    unit = "bytes" if tier.octets else "messages"
    return f"{tier.limit:,} {unit} in {tier.per:g} s"


async def upload(request: PortalRequest) -> Response:
    """`POST /portal/new`: deploy a zip sent by a form, for browsers without scripts."""
    context = request.services.context
    override = request.query.get("override", "") == "true"
    try:
        with trio.move_on_after(QUEUE) as waited:
            await context.uploads.acquire()
        if waited.cancelled_caught:
            raise FaultError(503, "too many uploads, try again", headers={"Retry-After": "1"})
        try:
            async with receive_upload(
                *(request.http, "file", context.store.upload),
                limit=context.settings.max_upload << 20,
                seconds=context.settings.upload_timeout,
            ) as (name, file):
                author = Author(request.caller.user, "portal")
                outcome = await context.deployer.deploy(
                    file, name, override=override, author=author
                )
        finally:
            context.uploads.release()
    except OSError as error:
        raise FaultError(500, f"cannot store the upload: {error.strerror}") from None
    if outcome.status == "deployed" and outcome.project is not None:
        project = outcome.project
        await audit(request, "deploy", project.title, override=override)
        return RedirectResponse(api_address(project.id), 303)
    problems = [
        msgspec.structs.replace(each, file=each.file[:200]) for each in outcome.problems[:50]
    ]
    return await page(request, "upload.html", title="Not deployed", status=422, problems=problems)


ROUTES = (
    PortalRoute("GET", "/new", Role.PUBLISHER, show_new, Kind.PAGE, writes=True),
    PortalRoute("GET", "/new/edit", Role.PUBLISHER, edit_new, Kind.PAGE, writes=True),
    PortalRoute("GET", "/apis/{id}/edit", Role.PUBLISHER, edit_api, Kind.PAGE, writes=True),
    PortalRoute("GET", "/api/apis/{id}/source", Role.PUBLISHER, source),
    PortalRoute("GET", "/api/new", Role.PUBLISHER, blank_source),
    PortalRoute("POST", "/new", Role.PUBLISHER, upload, Kind.FORM, writes=True),
)
