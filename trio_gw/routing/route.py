"""A route: one topic of one API, ready to serve; and a match, a route with path parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.routing.backend_target import BackendTarget
from trio_gw.routing.deprecation import deprecation_headers
from trio_gw.routing.topics import parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
    from trio_gw.errors import Headers
    from trio_gw.routing.access_index import AccessIndex


class Route:
    """One topic of one API, ready to serve. Compared by identity; never changed.

    `rank` is the position among the topics of the API, in the order in which they are tried.
    `access` indexes the access rules of all topics of the API. It is None if no other topic is
    stricter than this one. `blocked` and `notice`, the headers of a deprecated API, follow from
    its state; they are fixed here so that a connection looks at one attribute.
    """

    __slots__ = ("access", "api", "blocked", "notice", "parameters", "rank", "target", "topic")

    def __init__(self, api: ApiProject, topic: Topic, rank: int = 0) -> None:
        self.api = api
        self.topic = topic
        self.rank = rank
        self.access: AccessIndex | None = None
        self.blocked = api.managed is not None and api.managed.state == "BLOCKED"
        self.notice: Headers = deprecation_headers(api.managed)
        self.parameters = parameters_of(topic.name)
        self.target = BackendTarget(topic.mapping, passed=topic.name if topic.pass_path else None)

    @property
    def secured(self) -> bool:
        """Whether a credential is required; prototypes require none (spec: routing §11)."""
        return self.topic.secured and self.api.lifecycle != "PROTOTYPED"

    @property
    def pattern(self) -> str:
        """The full path pattern as users write it: `/ctx/1.0.0/rooms/{id}`."""
        return self.api.base_path.rstrip("/") + self.topic.name

    def cluster(self, kind: str) -> Cluster | None:
        """Return the backends for `production` or `sandbox`."""
        return self.api.production if kind == "production" else self.api.sandbox

    def backend_target(self, match: Match, endpoint: Endpoint, query: str) -> str:
        """Return the path and query of the backend request (spec: routing §5)."""
        return self.target.build(endpoint, match.parameters, query, match.rest)

    def backend_urls(self, kind: str) -> list[str]:
        """List the URLs of the backends of a kind, in the form of `BackendTarget.url`."""
        cluster = self.cluster(kind)
        return [] if cluster is None else [self.target.url(each) for each in cluster.endpoints]


class Match(NamedTuple):
    """A route, the raw path parameters by name, and the path below the base path."""

    route: Route
    parameters: Mapping[str, str]
    rest: str = ""
