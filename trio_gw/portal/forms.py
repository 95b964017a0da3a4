"""The fields of an HTML form that was sent, and where the browser goes afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from starlette.responses import RedirectResponse

from trio_gw.admin.json_responses import FaultError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest

FORM = "application/x-www-form-urlencoded"
MAX_FORM = 16 << 10  # bytes
MAX_FIELDS = 40


async def read_form(request: PortalRequest) -> Mapping[str, str]:
    """Read the fields of a form. Raises `FaultError` 413, 415 or 400."""
    given = request.http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != FORM:
        raise FaultError(415, f"send {FORM}")
    body = await request.read(MAX_FORM)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise FaultError(400, "the form cannot be read") from None
    return dict(pairs)


def see_other(path: str, **query: str) -> Response:
    """Send the browser to a page of the portal; values that are empty are left out."""
    given = {name: value for name, value in query.items() if value}
    separator = "&" if "?" in path else "?"
    return RedirectResponse(path + (separator + urlencode(given) if given else ""), 303)
