"""The overview of one API: the page, and its endpoint (spec: portal §2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.admin.json_responses import json_response, problem_list
from trio_gw.documents import values
from trio_gw.portal.addresses import client_urls, host_name
from trio_gw.portal.api_facts import api_facts, backends
from trio_gw.portal.catalogue_index import count_open
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import (
    api_header,
    find_everywhere,
    is_visible,
    served_apis,
)
from trio_gw.telemetry import families

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.errors import Problem
    from trio_gw.portal.api_facts import ApiFacts, BackendFact
    from trio_gw.portal.request import PortalRequest
    from trio_gw.portal.served_apis import ServedApi


class Described(NamedTuple):
    """What the documents of an API say about it as a whole. `html` is safe."""

    text: str
    html: str
    contact: str
    license: str


class Overview(NamedTuple):
    """Everything on the page. What only publishers see is empty for others."""

    api: ServedApi
    facts: ApiFacts
    described: Described
    siblings: tuple[ServedApi, ...]
    backends: tuple[BackendFact, ...]
    open: int | None
    problems: tuple[Problem, ...]


async def overview_of(request: PortalRequest) -> Overview:
    """Collect what the page shows."""
    services, role = request.services, request.caller.role
    everywhere = await find_everywhere(request)
    api = everywhere[0]
    shown = host_name(request.http.headers.get("host", "localhost"))
    # A gateway on one machine is reached by the name in the browser's address.
    bases = {
        one.host: client_urls(
            services.settings.portal, services.addresses, _reached(one.host, shown)
        )
        for one in everywhere
    }
    facts = api_facts(everywhere, services.settings, bases)
    described = await services.in_thread(lambda: _described(request, api))
    served = await served_apis(services)
    siblings = tuple(
        one
        for one in served.rows
        if one.project.name == api.project.name
        and one.host == api.host
        and one is not api
        and is_visible(one.state, role)
    )
    up: dict[str, bool] = {}
    open_now: int | None = None
    problems: tuple[Problem, ...] = ()
    if role >= Role.PUBLISHER:
        stats = await services.context.aggregate.stats()
        if stats is not None:
            snapshot = stats[0]
            open_now = count_open(snapshot).get(api.project.title, 0)
            for labels, (value, *_) in snapshot.get(families.BACKEND_UP.name, {}).items():
                up[labels[0]] = up.get(labels[0], True) and bool(value)
        problems = tuple(
            one
            for one in services.context.aggregate.worker_status.problems()
            if f"{one.file}/".startswith(f"{api.project.folder}/")
        )
    listed = backends(api.project, up) if role >= Role.PUBLISHER else ()
    return Overview(api, facts, described, siblings, listed, open_now, problems)


def _reached(host: str, shown: str) -> str:
    return shown if host == "localhost" else host


def _described(request: PortalRequest, api: ServedApi) -> Described:
    """Read the description from the definition. Blocks."""
    from trio_gw.portal.markdown import to_html

    services = request.services
    assert services.context.documents is not None
    documents = services.context.documents(api.project)
    if documents.definition is None:
        return Described("", "", "", "")
    info = values.child(documents.definition.document.root, "info")
    text = values.text(info, "description")
    license_name = values.text(values.child(info, "license"), "name", values.SHORT)
    contact = values.child(info, "contact")
    named = values.text(contact, "name", values.SHORT)
    named = named or values.text(contact, "email", values.SHORT)
    return Described(text, to_html(text) if text else "", named, license_name)


async def show_overview(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}`: the page."""
    found = await overview_of(request)
    return await page(
        request,
        "overview.html",
        title=found.api.project.title,
        api=await api_header(request, found.api, ""),
        found=found,
        project=found.api.project,
        publishes=request.caller.role >= Role.PUBLISHER,
    )


async def get_overview(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}`: the same as JSON."""
    found = await overview_of(request)
    project = found.api.project
    body = {
        "id": project.id,
        "title": project.title,
        "name": project.name,
        "version": project.version,
        "host": found.api.host,
        "path": project.base_path,
        "state": found.api.state,
        "source": found.api.source,
        "environments": found.api.environments,
        "default_version": project.default_version,
        "description": found.described.text,
        "topics": [topic.name for topic in project.topics],
        **msgspec.to_builtins(found.facts),
        "siblings": [
            {"id": one.project.id, "title": one.project.title, "state": one.state}
            for one in found.siblings
        ],
    }
    if request.caller.role >= Role.PUBLISHER:
        body |= {
            "backends": msgspec.to_builtins(found.backends),
            "open": found.open,
            "problems": problem_list(found.problems),
        }
    return json_response(body)


ROUTES = (
    PortalRoute("GET", "/apis/{id}", Role.CONSUMER, show_overview, Kind.PAGE, anonymous=True),
    PortalRoute("GET", "/api/apis/{id}", Role.CONSUMER, get_overview, anonymous=True),
)
