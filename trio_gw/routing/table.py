"""The route table: built once from all projects, replaced as a whole, otherwise only read.

`RouteTable.match` finds the route for a request. `live.Live` holds the current table.

Order (spec: routing §3, with a stable order where the reference has none). Within one virtual
host, APIs that are not a default version come first, then default versions; in each group the
longest base path comes first. Within an API the order is `topics.sort_key`. When a request
matches a base path but none of its topics, the next API is tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trio_gw.config.api import ApiProject, Cluster
    from trio_gw.routing.api_routes import ApiRoutes
    from trio_gw.routing.conflicts import Claim, Holder
    from trio_gw.routing.route import Match, Route
    from trio_gw.routing.virtual_host import VirtualHost

MAX_CACHED = 1000  # requests in the cache of matches
MAX_CACHED_LENGTH = 256  # characters of host and path of a cached request


class RouteTable:
    """An immutable set of routes. `held` maps each claim to the project that won it."""

    def __init__(
        self,
        vhosts: dict[str, VirtualHost],
        default: str,
        apis: dict[str, ApiRoutes],
        digest: str,
        held: Mapping[Claim, Holder],
    ) -> None:
        """`default` is the virtual host for unknown host names; if empty, they get a 404."""
        self._vhosts = vhosts
        self._default = default
        self._suffixes = {
            host[1:]: vhost for host, vhost in vhosts.items() if host.startswith("*.")
        }
        self._suffix_lengths = set(map(len, self._suffixes))
        self.apis = apis
        self.digest = digest
        self.held = held
        # Organization and id of each API whose connections are refused.
        self.blocked = frozenset(
            (each.project.organization, each.project.id)
            for each in apis.values()
            if each.project.managed is not None and each.project.managed.state == "BLOCKED"
        )
        self._topics: frozenset[tuple[str, str]] | None = None
        self._cache: dict[tuple[str, str], Match] = {}

    def has(self, route: Route) -> bool:
        """Return whether this table serves the topic of `route`, a route of any table."""
        if self._topics is None:
            self._topics = frozenset((one.api.id, one.topic.name) for _, _, one in self.rows())
        return (route.api.id, route.topic.name) in self._topics

    def match(self, host: str, path: str) -> Match | None:
        """Find the route for a host name (lower-case, no port) and a raw path without query."""
        key = (host, path)
        found = self._cache.get(key)
        if found is None:
            found = self._find(host, path)
            if found is not None and len(host) + len(path) <= MAX_CACHED_LENGTH:
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                self._cache[key] = found
        return found

    def has_host(self, host: str) -> bool:
        """Return whether any API is served on this host name (lower-case, no port)."""
        return self._vhost(host) is not None

    def api_at(self, host: str, path: str) -> ApiProject | None:
        """Find the API with the longest base path that is a prefix of a raw path."""
        vhost = self._vhost(host)
        return None if vhost is None else vhost.api_at(path)

    def _find(self, host: str, path: str) -> Match | None:
        vhost = self._vhost(host)
        return None if vhost is None else vhost.match(path)

    def _vhost(self, host: str) -> VirtualHost | None:
        vhost = self._vhosts.get(host)
        return vhost or self._wildcard_vhost(host) or self._vhosts.get(self._default)

    def _wildcard_vhost(self, host: str) -> VirtualHost | None:
        """Find the longest wildcard (`*.example.com`) that matches a host."""
        at = host.find(".") if self._suffixes else -1
        while at >= 0:
            fits = len(host) - at in self._suffix_lengths
            if fits and (vhost := self._suffixes.get(host[at:])) is not None:
                return vhost
            at = host.find(".", at + 1)
        return None

    def clusters(self) -> Iterator[Cluster]:
        """List the backends of every API."""
        for api in self.apis.values():
            yield from filter(None, (api.project.production, api.project.sandbox))

    def rows(self) -> Iterator[tuple[str, str, Route]]:
        """List every (virtual host, base path, route) in matching order."""
        for host, base, api in self._bases():
            for route in api.routes:
                yield host, base, route

    def bases(self) -> Iterator[tuple[str, str, ApiProject]]:
        """List every (virtual host, base path, API) in matching order."""
        return ((host, base, api.project) for host, base, api in self._bases())

    def _bases(self) -> Iterator[tuple[str, str, ApiRoutes]]:
        for host in sorted(self._vhosts):
            bases = self._vhosts[host].bases
            for base in sorted(bases, key=lambda base: (bases[base][0], -len(base), base)):
                yield host, base, bases[base][1]
