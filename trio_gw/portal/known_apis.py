"""Finds the API of a path for those who manage it: also one that is retired, or was undeployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.admin.json_responses import FaultError
from trio_gw.feed.revisions import KnownApi

if TYPE_CHECKING:
    from trio_gw.portal.request import PortalRequest


async def find_known(request: PortalRequest, api_id: str = "") -> KnownApi:
    """Find the API with this id, by default that of the path, on the host of the query if given.

    Raises `FaultError` 404 if nothing is known of it.
    """
    wanted = api_id or request.params["id"]
    host = request.query.get("host", "").lower()
    deployer = request.services.context.deployer
    for one in deployer.served():
        if one.project.id == wanted and host in ("", one.host):
            project = one.project
            return KnownApi(project.organization, project.id, project.title)
    if (found := await deployer.revisions.by_id(wanted)) is not None:
        return found
    raise FaultError(404, "there is no such API here")
