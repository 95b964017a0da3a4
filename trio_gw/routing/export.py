"""The routes of a table as plain values, for JSON and text output. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_gw.routing.route import Route
    from trio_gw.routing.table import RouteTable


def route_rows(table: RouteTable) -> list[dict[str, Any]]:
    """List every route in matching order."""
    return [_row(*row) for row in table.rows()]


def _row(host: str, base: str, route: Route) -> dict[str, Any]:
    return {
        "host": host,
        "path": base + route.topic.name,
        "api": route.api.title,
        "id": route.api.id,
        "folder": route.api.folder,
        "secured": route.secured,
        "scopes": list(route.topic.scopes or ()),
        "production": route.backend_urls("production"),
        "sandbox": route.backend_urls("sandbox"),
    }
