"""The APIs that are served now, as the pages of the portal show them: who may see which, and where.

The list is made once per route table, in the worker thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

from trio_gw.admin.json_responses import FaultError
from trio_gw.config.placement import placements, vhosts
from trio_gw.guard.roles import Role
from trio_gw.routing.conflicts import Claim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.api import ApiProject
    from trio_gw.portal.request import PortalRequest
    from trio_gw.portal.services import PortalServices
    from trio_gw.routing.table import RouteTable

# The states in which people who are no publishers see an API (spec: portal §2.9).
_SEEN = {
    Role.NOBODY: frozenset(("PUBLISHED",)),
    Role.CONSUMER: frozenset(("PROTOTYPED", "PUBLISHED", "DEPRECATED")),
}
# Label, the rest of the address, and the least role of each page of an API.
_TABS = (
    ("Overview", "", Role.NOBODY),
    ("Topics", "topics", Role.NOBODY),
    ("Document", "document", Role.CONSUMER),
    ("Try", "try", Role.CONSUMER),
    ("Keys", "keys", Role.CONSUMER),
    ("Subscribe", "subscribe", Role.CONSUMER),
    ("Revisions", "revisions", Role.PUBLISHER),
    ("Lifecycle", "lifecycle", Role.PUBLISHER),
    ("Edit", "edit", Role.PUBLISHER),
)


class ServedApi(NamedTuple):
    """One API on one host. `source` is the origin of its project."""

    host: str
    project: ApiProject
    environments: tuple[str, ...]
    source: str

    @property
    def state(self) -> str:
        """Its state in the lifecycle: the one set at the gateway, else that of its files."""
        managed = getattr(self.project, "managed", None)
        state = self.project.lifecycle if managed is None else managed.state
        return state.upper() or "PUBLISHED"


class ServedApis(NamedTuple):
    """All APIs of one route table, in the order of hosts and base paths."""

    rows: tuple[ServedApi, ...]
    by_id: Mapping[str, tuple[ServedApi, ...]]


_made: WeakKeyDictionary[RouteTable, ServedApis] = WeakKeyDictionary()


async def served_apis(services: PortalServices) -> ServedApis:
    """List what the current route table serves."""
    table = services.context.live.table
    found = _made.get(table)
    if found is None:
        vhost_of = vhosts(services.settings.known_environments)
        found = _made[table] = await services.in_thread(lambda: read_table(table, vhost_of))
    return found


def read_table(table: RouteTable, vhost_of: Mapping[str, str]) -> ServedApis:
    """List the APIs of a route table, one item per API and host."""
    rows: dict[tuple[str, str], ServedApi] = {}
    for host, _, project in table.bases():
        if (host, project.folder) not in rows:
            holder = table.held.get(Claim(host, "id", project.id))
            where = placements(project.deployments, vhost_of)
            names = tuple(one.environment for one in where if one.host == host)
            source = "" if holder is None else holder.origin
            rows[host, project.folder] = ServedApi(host, project, names, source)
    by_id: dict[str, list[ServedApi]] = {}
    for row in rows.values():
        by_id.setdefault(row.project.id, []).append(row)
    return ServedApis(tuple(rows.values()), {key: tuple(each) for key, each in by_id.items()})


def is_visible(state: str, role: Role) -> bool:
    """Return whether people with this role see an API in this state."""
    seen = _SEEN.get(role)
    return seen is None or state in seen


async def find_api(request: PortalRequest) -> ServedApi:
    """Find the API of the parameter `id`, on the host of the query if there is one.

    Raises `FaultError` 404 if it is not served, or if the caller may not see it.
    """
    return (await find_everywhere(request))[0]


async def find_everywhere(request: PortalRequest) -> tuple[ServedApi, ...]:
    """List the API of the parameter `id` on all its hosts; the host of the query comes first."""
    wanted, host = request.params["id"], request.query.get("host", "").lower()
    everywhere = (await served_apis(request.services)).by_id.get(wanted, ())
    visible = [one for one in everywhere if is_visible(one.state, request.caller.role)]
    first = [one for one in visible if not host or one.host == host]
    if not first:
        raise FaultError(404, "there is no such API here, or it is not served any more")
    return (first[0], *(one for one in visible if one is not first[0]))


def api_address(id: str, host: str = "", page: str = "") -> str:  # noqa: A002 - as in the path
    """Write the address of a page of an API."""
    address = f"/portal/apis/{quote(id, safe='')}" + (f"/{page}" if page else "")
    return f"{address}?{urlencode({'host': host})}" if host else address


async def api_header(request: PortalRequest, api: ServedApi, page: str) -> dict[str, Any]:
    """Return what `api_base.html` shows above each page of an API: the value `api`.

    `page` is the last part of the path: "" for the overview, "topics", "document", and so on.
    """
    project = api.project
    everywhere = (await served_apis(request.services)).by_id.get(project.id, ())
    hosts = [one.host for one in everywhere if is_visible(one.state, request.caller.role)]
    # The host is only part of the addresses where it is needed.
    host = api.host if len(hosts) > 1 else ""
    return {
        "id": project.id,
        "name": project.name,
        "version": project.version,
        "title": project.title,
        "host": api.host,
        "hosts": hosts,
        "path": project.base_path,
        "state": api.state,
        "source": api.source,
        "tabs": [
            (api_address(project.id, host, rest), label, rest == page, rest)
            for label, rest, role in _TABS
            if request.caller.role >= role and not (rest == "edit" and request.services.ruled)
        ],
    }
