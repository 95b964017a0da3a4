"""The route table: compiled once from all projects, swapped whole, then only read.

`compile_table` turns projects into a `RouteTable`; `RouteTable.match` finds the route for a
request; `Live` is the hinge between *feed*, which swaps tables in, and *proxy*, which reads
`live.table` once per connection and keeps the route it found for life.

Order (spec: routing §3, with a stable order where the reference has none). Within one vhost,
APIs that are not the default version come first, then default versions; among each group the
longest base path first. Within an API: `topics.sort_key`. A request that matches a base path
but none of its topics goes on to the next candidate.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from trio_gw import demands
from trio_gw.config.placement import DEFAULT_ENVIRONMENT, place, placements, vhosts
from trio_gw.conflicts import Claimant, settle
from trio_gw.conflicts import default_base_path as default_base_path
from trio_gw.errors import Problem
from trio_gw.mapping import Target
from trio_gw.segments import Work, WorkError
from trio_gw.topics import STEPS, TopicMatcher, parameters_of, pattern_of, sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
    from trio_gw.config.settings import Environment
    from trio_gw.conflicts import Claim, Holder

log = logging.getLogger("trio_gw.routes")

MAX_PARTS = 100_000  # segments and parameters of all channels of one API
SORTED = 1000  # topics that are sorted at once

MOST_RECENT, MAX_RECENT = 1000, 256  # requests whose route is remembered, and their length


class Route:
    """One topic of one API, ready to serve. Compared by identity; never changed.

    `place` is its place among the topics of the API, in the order in which they are tried.
    `demands` are those of all of them, None if no topic asks for more than this one.
    """

    __slots__ = ("api", "demands", "parameters", "place", "target", "topic")

    def __init__(self, api: ApiProject, topic: Topic, place: int = 0) -> None:
        self.api = api
        self.topic = topic
        self.place = place
        self.demands: demands.Demands | None = None
        self.parameters = parameters_of(topic.name)
        self.target = Target(topic.mapping, passed=topic.name if topic.pass_path else None)

    @property
    def secured(self) -> bool:
        """Tell whether a credential is asked for; prototypes ask for none (spec: routing §11)."""
        return self.topic.secured and self.api.lifecycle != "PROTOTYPED"

    @property
    def pattern(self) -> str:
        """The full path pattern as people write it: `/ctx/1.0.0/rooms/{id}`."""
        return self.api.base_path.rstrip("/") + self.topic.name

    def cluster(self, kind: str) -> Cluster | None:
        """Return the backends for `production` or `sandbox`."""
        return self.api.production if kind == "production" else self.api.sandbox

    def backend_target(self, match: Match, endpoint: Endpoint, query: str) -> str:
        """Build the path and query asked of the backend (spec: routing §5)."""
        return self.target.build(endpoint, match.parameters, query, match.rest)

    def backend_urls(self, kind: str) -> list[str]:
        """Write the URLs that the backends of a kind are asked for, as `Target.url` does."""
        cluster = self.cluster(kind)
        return [] if cluster is None else [self.target.url(each) for each in cluster.endpoints]


class Match(NamedTuple):
    """A route, the raw text of the path parameters by name, the path below the base path."""

    route: Route
    parameters: Mapping[str, str]
    rest: str = ""


class _Api:
    """One project's compiled routes; kept from table to table while the project is the same."""

    __slots__ = ("digest", "matcher", "project", "routes", "too_alike")

    def __init__(self, project: ApiProject, pause: Callable[[], None]) -> None:
        self.project = project
        self.too_alike = False  # and that has been logged
        topics = _in_order(project.topics, pause)
        routes = []
        for number, topic in enumerate(topics):
            pause()
            routes.append(Route(project, topic, number))
        self.routes = tuple(routes)
        self.matcher = TopicMatcher([topic.name for topic in topics], pause)
        if len({_demand(route) for route in self.routes}) > 1:
            known = demands.Demands([_entry(route) for route in self.routes])
            for route in self.routes:
                pause()
                if known.stricter(route.place):
                    route.demands = known
        digest = hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(project, topics=())))
        for topic in topics:
            pause()
            digest.update(msgspec.json.encode(topic))
        self.digest = digest.digest()

    def match(self, rest: str, work: Work) -> Match | None:
        if (found := self.matcher.match(rest, work)) is None:
            return None
        rank, texts = found
        route = self.routes[rank]
        return Match(route, dict(zip(route.parameters, texts, strict=True)), rest)


def _demand(route: Route) -> demands.Demand:
    topic = route.topic
    scopes = None if topic.scopes is None else frozenset(topic.scopes)
    limits = (topic.inspection, topic.max_message, topic.tier)
    if not route.secured:  # what it declares is not asked for, so these are all alike
        return demands.Demand(False, None, frozenset(), limits, topic.plain_http)
    return demands.Demand(
        route.secured, scopes, frozenset(topic.api_keys), limits, topic.plain_http
    )


def _entry(route: Route) -> demands.Entry:
    name, target = pattern_of(route.topic.name), route.target
    paths = tuple(base + name for base in _bases(route.api))
    return demands.Entry(name, paths, target.pattern, target.fixed, _demand(route))


class _Vhost:
    """The APIs of one host name, by the base paths they answer at."""

    __slots__ = ("bases", "depth", "lengths")

    def __init__(self) -> None:
        # base path → (is the default version's group, API)
        self.bases: dict[str, tuple[bool, _Api]] = {}
        self.depth = 0
        self.lengths: set[int] = set()  # of the base paths

    def add(self, base: str, api: _Api) -> None:
        """Have an API answer at a base path."""
        self.bases[base] = (api.project.default_version, api)
        self.depth = max(self.depth, base.count("/"))
        self.lengths.add(len(base))

    def match(self, path: str) -> Match | None:
        """Find the route for a raw path. Bounded by the deepest base path, not by the path."""
        candidates: list[tuple[bool, int, _Api]] = []
        end = 0
        for _ in range(self.depth + 1):
            if end in self.lengths and (found := self.bases.get(path[:end])) is not None:
                candidates.append((found[0], -end, found[1]))
            if end == len(path):
                break
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
        candidates.sort(key=lambda candidate: candidate[:2])
        work = Work(STEPS)
        spent: list[tuple[int, _Api]] = []
        for _, start, api in candidates:
            before = work.left
            try:
                if (match := api.match(path[-start:], work)) is not None:
                    return match
            except WorkError:
                # Refused: what would be found next may be open to others than what is meant.
                _tell(max([*spent, (before, api)], key=lambda each: each[0])[1])
                return None
            spent.append((before - work.left, api))
        return None

    def api_at(self, path: str) -> ApiProject | None:
        """Find the API with the longest base path that a raw path lies under."""
        for length in sorted(self.lengths, reverse=True):
            if path[length : length + 1] in ("", "/") and (found := self.bases.get(path[:length])):
                return found[1].project
        return None


def _tell(api: _Api) -> None:
    """Log, once, whose topics take too long to tell apart."""
    if not api.too_alike:
        api.too_alike = True
        log.warning(
            "%s: a request was answered with 404 as it fits too many channels of %s in part;"
            " make the beginnings of their paths differ",
            *(api.project.folder, api.project.title),
        )


class RouteTable:
    """An immutable set of routes. `held` says whose the claims are that it was made by."""

    def __init__(
        self,
        vhosts: dict[str, _Vhost],
        default: str,
        apis: dict[str, _Api],
        digest: str,
        held: Mapping[Claim, Holder],
    ) -> None:
        self._vhosts = vhosts
        self._default = default  # the vhost for hosts nobody claims; empty: none (404)
        self._suffixes = {
            host[1:]: vhost for host, vhost in vhosts.items() if host.startswith("*.")
        }
        self._suffix_lengths = set(map(len, self._suffixes))
        self.apis = apis
        self.digest = digest
        self.held = held
        self._topics: frozenset[tuple[str, str]] | None = None
        self._recent: dict[tuple[str, str], Match] = {}  # what was found for whom

    def has(self, route: Route) -> bool:
        """Tell whether this table still serves the topic that `route`, perhaps of another, has."""
        if self._topics is None:
            self._topics = frozenset((one.api.id, one.topic.name) for _, _, one in self.rows())
        return (route.api.id, route.topic.name) in self._topics

    def match(self, host: str, path: str) -> Match | None:
        """Find the route for a host name (lower-case, no port) and a raw path without query."""
        asked = (host, path)
        found = self._recent.get(asked)
        if found is None:
            found = self._find(host, path)
            if found is not None and len(host) + len(path) <= MAX_RECENT:
                if len(self._recent) >= MOST_RECENT:
                    self._recent.clear()
                self._recent[asked] = found
        return found

    def has_host(self, host: str) -> bool:
        """Tell whether any API is served on this host name (lower-case, no port)."""
        return self._vhost(host) is not None

    def api_at(self, host: str, path: str) -> ApiProject | None:
        """Find the API with the longest base path that a raw path lies under."""
        vhost = self._vhost(host)
        return None if vhost is None else vhost.api_at(path)

    def _find(self, host: str, path: str) -> Match | None:
        vhost = self._vhost(host)
        return None if vhost is None else vhost.match(path)

    def _vhost(self, host: str) -> _Vhost | None:
        vhost = self._vhosts.get(host)
        return vhost or self._below_wildcard(host) or self._vhosts.get(self._default)

    def _below_wildcard(self, host: str) -> _Vhost | None:
        """Find the longest wildcard (`*.example.com`) that a host fits."""
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
        """List every (vhost, base path, route) in the order in which they are tried."""
        for host, base, api in self._bases():
            for route in api.routes:
                yield host, base, route

    def bases(self) -> Iterator[tuple[str, str, ApiProject]]:
        """List every (vhost, base path, API) in the order in which they are tried."""
        return ((host, base, api.project) for host, base, api in self._bases())

    def _bases(self) -> Iterator[tuple[str, str, _Api]]:
        for host in sorted(self._vhosts):
            bases = self._vhosts[host].bases
            for base in sorted(bases, key=lambda base: (bases[base][0], -len(base), base)):
                yield host, base, bases[base][1]


def _bases(project: ApiProject) -> list[str]:
    """Name the base paths that an API answers at, without a slash at their end."""
    bases = [project.base_path.rstrip("/")]
    if project.default_version:
        bases.append(default_base_path(project))
    return bases


def compile_table(
    projects: Sequence[ApiProject],
    environments: Sequence[Environment],
    *,
    strict_vhosts: bool = False,
    previous: RouteTable | None = None,
    origins: Sequence[str] = (),
    held: Mapping[Claim, Holder] | None = None,
    pause: Callable[[], None] = lambda: None,
) -> tuple[RouteTable, tuple[Problem, ...]]:
    """Compile projects into a table.

    Of two that claim one id, one name and version, or one base path on a host, the one that holds
    it wins, else the earlier (`conflicts`); `origins` names the origin of each project. Always
    yields a table: what cannot be served is left out and named in the problems. Routes of projects
    that are unchanged since `previous` are taken over from it. `pause` is called every few dozen
    microseconds.
    """
    vhost_of = vhosts(environments)
    problems: list[Problem] = []
    hosted: dict[str, _Vhost] = {}
    apis: dict[str, _Api] = {}
    claimants: list[Claimant] = []
    digest = hashlib.sha256(msgspec.json.encode((list(environments), strict_vhosts)))
    for number, project in enumerate(projects):
        pause()
        if (parts := _parts(project)) > MAX_PARTS:
            what = f"its channels have {parts:,} segments and parameters, more than {MAX_PARTS:,}"
            problems.append(Problem(project.folder, 0, 0, what, "split it into several APIs"))
            continue
        hosts = _hosts(project, vhost_of, problems)
        if not hosts:
            what = "deployed nowhere: none of its environments is known here"
            mend = "name the environment under [[environments]] in gateway.toml"
            problems.append(Problem(project.folder, 0, 0, what, mend, "warning"))
        known = previous.apis.get(project.folder) if previous else None
        same = known is not None and (known.project is project or known.project == project)
        api = known if known is not None and same else _Api(project, pause)
        apis[project.folder] = api
        digest.update(api.digest)
        claimants.append(Claimant(project, origins[number] if origins else "", hosts))
    settled = settle(claimants, held or {}, pause)
    for claim, number in settled.granted.items():
        pause()
        if claim.kind == "base":
            project = claimants[number].project
            hosted.setdefault(claim.host, _Vhost()).add(claim.value, apis[project.folder])
            digest.update(msgspec.json.encode((claim, project.folder)))
    default = "" if strict_vhosts else vhost_of[DEFAULT_ENVIRONMENT]
    holders = {claim: claimants[number].holder for claim, number in settled.granted.items()}
    table = RouteTable(hosted, default, apis, digest.hexdigest(), holders)
    return table, (*problems, *settled.problems)


def _parts(project: ApiProject) -> int:
    """Count what compiling takes time and memory for."""
    names = (topic.name for topic in project.topics)
    return sum(name.count("/") + name.count("{") for name in names)


def _in_order(topics: Sequence[Topic], pause: Callable[[], None]) -> list[Topic]:
    """Sort topics as they are tried, a thousand at a time."""

    def key(topic: Topic) -> tuple[bool, bool, str, str, str]:
        pause()
        return sort_key(topic.name)

    pieces = [
        sorted(topics[start : start + SORTED], key=key) for start in range(0, len(topics), SORTED)
    ]
    return pieces[0] if len(pieces) == 1 else list(heapq.merge(*pieces, key=key))


def _hosts(
    project: ApiProject, vhost_of: Mapping[str, str], problems: list[Problem]
) -> tuple[str, ...]:
    """Name the hosts a project is served on (spec: project-format §7.1)."""
    for deployment in project.deployments:
        if place(deployment, vhost_of) is None:
            what = f"environment {deployment.environment!r} is not known here, so it is ignored"
            mend = "name it under [[environments]] in gateway.toml"
            problems.append(Problem(project.folder, 0, 0, what, mend, "warning"))
    placed = placements(project.deployments, vhost_of)
    return tuple(dict.fromkeys(one.host for one in placed))


class Live:
    """The current table. Swapped whole by one assignment; readers need no lock."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.generation = 0
        self._changed = trio.Event()

    def swap(self, table: RouteTable) -> None:
        """Make `table` the current one and wake who waits for a change."""
        self.table = table
        self.generation += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait_changed(self) -> None:
        """Return after the next swap."""
        await self._changed.wait()


EMPTY, _ = compile_table((), ())
