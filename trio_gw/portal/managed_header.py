"""What stands above the pages for managing an API, also when it is retired or undeployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_gw.config.placement import placements, vhosts
from trio_gw.feed import origins
from trio_gw.portal.catalogue_index import open_connections
from trio_gw.portal.served_apis import ServedApi, api_address, api_header, served_apis

if TYPE_CHECKING:
    from trio_gw.feed.revisions import KnownApi
    from trio_gw.portal.request import PortalRequest

_PAGES = (("Revisions", "revisions"), ("Lifecycle", "lifecycle"))


async def managed_header(request: PortalRequest, api: KnownApi, page: str) -> dict[str, Any]:
    """Return the value `api` for `api_base.html`."""
    host = request.query.get("host", "").lower()
    served = [
        one
        for one in (await served_apis(request.services)).by_id.get(api.id, ())
        if one.project.organization == api.organization
    ]
    if served:
        one = next((each for each in served if each.host == host), served[0])
        return await api_header(request, one, page)
    revisions = request.services.context.deployer.revisions
    state, project = revisions.state_of(api), revisions.source_project(api)
    name, _, version = api.title.rpartition(":")
    found: dict[str, Any] = {
        "id": api.id,
        "name": name,
        "version": version,
        "title": api.title,
        "host": "",
        "hosts": [],
        "path": "",
        "source": "not deployed",
        "state": "RETIRED" if state is not None and state.state == "RETIRED" else "",
    }
    if project is not None:
        where = placements(
            project.deployments, vhosts(request.services.settings.known_environments)
        )
        host = where[0].host if where else ""
        source = origins.DEPLOYED if revisions.current(api) else "retired"
        found |= await api_header(request, ServedApi(host, project, (), source), page)
        found["state"] = state.state if state is not None else found["state"]
    found["tabs"] = [
        (api_address(api.id, "", rest), text, rest == page, rest) for text, rest in _PAGES
    ]
    return found


async def open_now(request: PortalRequest, api: KnownApi) -> int | None:
    """Count the open connections of an API; None if metrics are off."""
    if request.services.context.metrics is None:
        return None
    return (await open_connections(request.services)).get(api.title, 0)
