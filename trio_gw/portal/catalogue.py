"""The catalogue: the page that lists the APIs, and its endpoint (spec: portal §2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from trio_gw.admin.json_responses import json_response
from trio_gw.portal import catalogue_query
from trio_gw.portal.catalogue_index import (
    catalogue_index,
    open_connections,
    problem_counts,
    with_problems,
)
from trio_gw.portal.editing.pages import new_api
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_address, served_apis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from trio_gw.errors import Problem
    from trio_gw.portal.catalogue_index import CatalogueIndex
    from trio_gw.portal.catalogue_query import CatalogueQuery, CatalogueRow
    from trio_gw.portal.request import PortalRequest

MOST_PROBLEMS = 20  # shown above the list
_KEPT = ("q", "state", "source", "host", "sort")


class CataloguePage(NamedTuple):
    """The rows of one page of the list, with what they were chosen from."""

    asked: CatalogueQuery
    within: CatalogueIndex
    total: int
    rows: list[CatalogueRow]
    problems: tuple[Problem, ...]

    @property
    def pages(self) -> int:
        """How many pages the list has; at least one."""
        return max(1, -(-self.total // self.asked.size))


async def _find(request: PortalRequest) -> CataloguePage:
    services, asked = request.services, catalogue_query.read(request.query)
    index = await catalogue_index(request, texts=bool(asked.words) or asked.sort == "changed")
    publishes = request.caller.role >= Role.PUBLISHER
    # Traffic and problems are not for consumers.
    counts = await open_connections(services) if publishes else {}
    total, rows = catalogue_query.select(index.entries, asked, lambda row: counts.get(row.title, 0))
    problems: tuple[Problem, ...] = ()
    if publishes:
        problems = services.context.aggregate.worker_status.problems()
        with_problems(rows, problem_counts(problems), await served_apis(services))
    return CataloguePage(asked, index, total, rows, problems)


async def catalogue(request: PortalRequest) -> Response:
    """`GET /portal/`: the list. An empty gateway shows publishers how to make the first API."""
    found = await _find(request)
    publishes = request.caller.role >= Role.PUBLISHER
    if not found.within.entries and publishes and not request.services.ruled:
        return await new_api(request, first=True)
    query = {name: request.query.get(name, "") for name in _KEPT}
    return await page(
        request,
        "catalogue.html",
        title="APIs",
        found=found,
        query=query,
        publishes=publishes,
        address=lambda number: _address(query, page=number),
        sort_address=lambda sort: _address(query, sort=sort),
        problems=found.problems[:MOST_PROBLEMS],
    )


async def list_apis(request: PortalRequest) -> Response:
    """`GET /portal/api/apis`: one page of the list as JSON."""
    found = await _find(request)
    items = [_item(row) for row in found.rows]
    return json_response(
        {"total": found.total, "page": found.asked.page, "pages": found.pages, "items": items}
    )


def _item(row: CatalogueRow) -> dict[str, object]:
    written = {name: getattr(row, name) for name in row.__struct_fields__}
    return {**written, "address": row_address(row)}


def row_address(row: CatalogueRow) -> str:
    """Write the address of the overview of a row."""
    return api_address(row.id, row.host)


def _address(query: Mapping[str, str], **changed: object) -> str:
    given = {name: text for name, text in {**query, **changed}.items() if text}
    return f"/portal/?{urlencode(given)}" if given else "/portal/"


ROUTES = (
    PortalRoute("GET", "/", Role.CONSUMER, catalogue, Kind.PAGE, anonymous=True),
    PortalRoute("GET", "/api/apis", Role.CONSUMER, list_apis, anonymous=True),
)
