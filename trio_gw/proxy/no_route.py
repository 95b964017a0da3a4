"""Explains why no topic matches a request, in the log and, as far as is safe, to the client.

Called by `connection` for a 404. The log names similar paths that exist. The response describes the
request only, so that nobody can find out which paths exist.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from trio_gw.proxy.refusals import not_found

if TYPE_CHECKING:
    from trio_gw.errors import Refusal
    from trio_gw.routing.table import RouteTable

_SLASHES = re.compile("//+")
_EMPTY_SEGMENT = "The path has an empty segment (`//`): write one slash."


def refusal(table: RouteTable, host: str, path: str) -> Refusal:
    """Build the 404 for a request that matches no topic of `table`."""
    return not_found(_EMPTY_SEGMENT if "//" in path else "", why=_why(table, host, path))


def _why(table: RouteTable, host: str, path: str) -> str:
    if not table.has_host(host):
        return f"no API is served on the host {host}"
    collapsed = _SLASHES.sub("/", path)
    spellings = (
        (collapsed, "one slash removed" if len(path) - len(collapsed) == 1 else "single slashes"),
        (path.rstrip("/"), "no slash at the end"),
        (unquote(path), "no percent-encoding"),
        (path.lower(), "lower case"),
        (
            _SLASHES.sub("/", unquote(path)).lower(),
            "single slashes, lower case and no percent-encoding",
        ),
    )
    for spelling, what in spellings:
        if spelling != path and table.match(host, spelling) is not None:
            return f"no route; the path would match with {what}"
    api = table.api_at(host, path)
    if api is None:
        return "no route: no API has this base path"
    return f"no route: {api.title} ({api.base_path}) has no topic for this path"
