"""The page that shows why a request was refused."""

from __future__ import annotations

import http
from typing import TYPE_CHECKING

from trio_gw.portal.render import page

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.admin.json_responses import FaultError
    from trio_gw.portal.request import PortalRequest

_TITLES = {
    400: "The request is not valid",
    401: "Log in first",
    403: "Not allowed",
    404: "Not found",
    421: "Unknown host name",
    429: "Too many requests",
    500: "Something went wrong",
    503: "Not available now",
}


async def error_page(request: PortalRequest, fault: FaultError) -> Response:
    """Render the page of a refusal."""
    title = _TITLES.get(fault.status) or http.HTTPStatus(fault.status).phrase
    response = await page(request, "error.html", title=title, status=fault.status, fault=fault)
    response.headers.update(fault.headers)
    return response
