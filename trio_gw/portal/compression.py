"""Compresses answers with gzip, for clients that accept it."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response

LEAST = 1024  # bytes; shorter answers stay as they are
MOST_AT_ONCE = 64 << 10  # bytes; compressing more takes too long for the event loop
_PACKED = ("application/zip",)
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(;[^,]*)?(?=,|$)", re.IGNORECASE)
_NEVER = re.compile(r";\s*q\s*=\s*0(\.0*)?\s*(;|$)", re.IGNORECASE)


def accepts_gzip(headers: Headers) -> bool:
    """Return whether the client accepts gzip."""
    found = _GZIP.search(headers.get("accept-encoding", ""))
    return found is not None and not _NEVER.search(found[1] or "")


def compress(response: Response, headers: Headers) -> None:
    """Compress a response that is complete, if that is worth it."""
    response.headers.add_vary_header("Accept-Encoding")
    body = bytes(response.body)
    if response.headers.get("content-type", "").startswith(_PACKED):
        return
    if len(body) < LEAST or "content-encoding" in response.headers or not accepts_gzip(headers):
        return
    response.body = gzip.compress(body, 6, mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.body))
