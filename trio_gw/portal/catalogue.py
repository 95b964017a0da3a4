"""The catalogue: the APIs that this gateway serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest


async def catalogue(request: PortalRequest) -> Response:
    """`GET /portal/`: the list."""
    apis = [served.project.title for served in request.services.context.live.table.apis.values()]
    return await page(request, "catalogue.html", title="APIs", apis=sorted(apis))


ROUTES = (PortalRoute("GET", "/", Role.CONSUMER, catalogue, Kind.PAGE, anonymous=True),)
