"""The compiled routes of one API: topics in matching order, their matcher and access rules."""

from __future__ import annotations

import hashlib
import heapq
from typing import TYPE_CHECKING

import msgspec

from trio_gw.routing.access_index import AccessIndex, AccessRules, TopicAccess
from trio_gw.routing.conflicts import default_base_path
from trio_gw.routing.route import Match, Route
from trio_gw.routing.topics import TopicMatcher, pattern_of, sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_gw.config.api import ApiProject, Topic
    from trio_gw.routing.segments import Work

SORT_CHUNK = 1000  # topics that are sorted without a pause


class ApiRoutes:
    """The routes of one project. Tables share it as long as the project does not change.

    `ambiguous` is set when the warning about too similar topics has been logged.
    """

    __slots__ = ("ambiguous", "digest", "matcher", "project", "routes")

    def __init__(self, project: ApiProject, pause: Callable[[], None]) -> None:
        self.project = project
        self.ambiguous = False
        topics = _sorted_topics(project.topics, pause)
        routes = []
        for rank, topic in enumerate(topics):
            pause()
            routes.append(Route(project, topic, rank))
        self.routes = tuple(routes)
        self.matcher = TopicMatcher([topic.name for topic in topics], pause)
        if len({_access_rules(route) for route in self.routes}) > 1:
            index = AccessIndex([_topic_access(route) for route in self.routes])
            for route in self.routes:
                pause()
                if index.has_stricter(route.rank):
                    route.access = index
        digest = hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(project, topics=())))
        for topic in topics:
            pause()
            digest.update(msgspec.json.encode(topic))
        self.digest = digest.digest()

    def match(self, rest: str, work: Work) -> Match | None:
        """Find the route for the path below the base path. Raises `WorkError`."""
        if (found := self.matcher.match(rest, work)) is None:
            return None
        rank, texts = found
        route = self.routes[rank]
        return Match(route, dict(zip(route.parameters, texts, strict=True)), rest)


def base_paths(project: ApiProject) -> list[str]:
    """List the base paths of an API, without a trailing slash."""
    paths = [project.base_path.rstrip("/")]
    if project.default_version:
        paths.append(default_base_path(project))
    return paths


def _access_rules(route: Route) -> AccessRules:
    topic = route.topic
    scopes = None if topic.scopes is None else frozenset(topic.scopes)
    limits = (topic.inspection, topic.max_message, topic.tier)
    if not route.secured:  # Its scopes and API keys are not checked, so they are left out.
        return AccessRules(False, None, frozenset(), limits, topic.plain_http)
    return AccessRules(route.secured, scopes, frozenset(topic.api_keys), limits, topic.plain_http)


def _topic_access(route: Route) -> TopicAccess:
    name, target = pattern_of(route.topic.name), route.target
    paths = tuple(base + name for base in base_paths(route.api))
    return TopicAccess(name, paths, target.pattern, target.fixed, _access_rules(route))


def _sorted_topics(topics: Sequence[Topic], pause: Callable[[], None]) -> list[Topic]:
    """Sort topics into matching order, in chunks."""

    def key(topic: Topic) -> tuple[bool, bool, str, str, str]:
        pause()
        return sort_key(topic.name)

    chunks = [
        sorted(topics[start : start + SORT_CHUNK], key=key)
        for start in range(0, len(topics), SORT_CHUNK)
    ]
    return chunks[0] if len(chunks) == 1 else list(heapq.merge(*chunks, key=key))
