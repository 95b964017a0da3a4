"""`POST /admin/explain`: why a handshake would be refused, for `trio-gw explain`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from trio_gw.admin.context import address_of
from trio_gw.admin.json_responses import FaultError, json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from trio_gw.admin.context import Context

MAX_BODY = 1 << 17  # bytes


async def explain(context: Context, request: Request, _: str) -> Response:
    """Explain the handshake that the body describes."""
    if context.explain is None:
        raise FaultError(404, "nothing explains here")
    body = bytearray()
    async with contextlib.aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY:
                raise FaultError(413, f"the body is larger than {MAX_BODY >> 10} KiB")
    return json_response(await context.explain(bytes(body), address_of(request)))
