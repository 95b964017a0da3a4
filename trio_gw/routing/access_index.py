"""Find topics of an API that a path may also mean and that have stricter access rules.

Compiled with the routes of an API, if its topics have different access rules.
`proxy.path_confusion` calls it for every interpretation of a path (`path_interpretations`).

There are two namespaces: the paths of client requests and those of backend requests. In both, an
interpretation means the first matching pattern, as in the route table. It is matched twice, with
and without regard to upper and lower case.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.routing.path_interpretations import (
    PLAIN,
    TooManyInterpretationsError,
    fold,
    folded,
    interpretations,
)
from trio_gw.routing.topics import PARAMETER, TopicMatcher, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from trio_gw.routing.segments import Work

Pair = tuple[str, str]

MAX_CACHED = 1000  # paths known to be free of conflicts
MAX_CACHED_LENGTH = 256  # characters of such a path

_MARK = "\ue000"  # replaces a parameter while a pattern is interpreted as a path


class AccessRules(NamedTuple):
    """What a topic requires of its callers, and how it limits their messages."""

    secured: bool
    scopes: frozenset[str] | None
    api_keys: frozenset[object]
    limits: tuple[object, ...]  # None or empty if unlimited
    plain_http: bool = False

    def covers(self, other: AccessRules) -> bool:
        """Return whether every caller of this topic may use the other one in the same way."""
        if any(other.limits) and other.limits != self.limits:
            return False
        if self.plain_http and not other.plain_http:
            return False
        if not other.secured:
            return True
        if not self.secured or not self.api_keys <= other.api_keys:
            return False
        if other.scopes is None or self.scopes == other.scopes:
            return True
        return bool(self.scopes) and self.scopes is not None and self.scopes <= other.scopes


class TopicAccess(NamedTuple):
    """One topic: its client paths, its backend path and its access rules.

    Paths are patterns in the syntax of channel names. The client paths are the topic's `name`
    below each base path. `query` are the query parameters for which the mapping of the topic
    sends a fixed value to the backend.
    """

    name: str
    client: tuple[str, ...]
    backend: str
    query: tuple[Pair, ...]
    rules: AccessRules


class _PatternTopics:
    """The topics of one pattern: for any query, or only with certain query parameters."""

    __slots__ = ("any", "by_rarest", "required")

    def __init__(self, topics: Mapping[int, frozenset[Pair]]) -> None:
        self.any = {topic for topic, pairs in topics.items() if not pairs}
        self.required = {topic: pairs for topic, pairs in topics.items() if pairs}
        self.by_rarest: dict[Pair, list[int]] = {}  # by the rarest of their parameters
        counts = Counter(pair for pairs in self.required.values() for pair in pairs)
        for topic, pairs in self.required.items():
            rarest = min(pairs, key=lambda pair: (counts[pair], pair))
            self.by_rarest.setdefault(rarest, []).append(topic)

    def find(self, pairs: AbstractSet[Pair]) -> set[int]:
        """Return the topics that require only parameters in `pairs`, else those without any."""
        found = {
            topic
            for pair in pairs
            for topic in self.by_rarest.get(pair, ())
            if self.required[topic] <= pairs
        }
        return found or self.any


class _Patterns:
    """Path patterns, each with its topics."""

    __slots__ = ("matcher", "topics")

    def __init__(self, patterns: Mapping[str, Mapping[int, frozenset[Pair]]]) -> None:
        names = sorted(patterns, key=sort_key)
        self.matcher = TopicMatcher(names)
        self.topics: list[set[int] | _PatternTopics] = []
        for name in names:
            topics = patterns[name]
            self.topics.append(_PatternTopics(topics) if any(topics.values()) else set(topics))

    def find(self, path: str, pairs: AbstractSet[Pair], work: Work) -> set[int] | None:
        if (found := self.matcher.match(path, work)) is None:
            return None
        topics = self.topics[found[0]]
        return topics.find(pairs) if isinstance(topics, _PatternTopics) else topics


class _Namespace:
    """Patterns as written, and the same patterns folded for comparison without case.

    `same` is true if both are equal, for example when all names are in lower case.
    """

    __slots__ = ("exact", "loose", "same")

    def __init__(self, patterns: Iterable[tuple[str, int, frozenset[Pair]]]) -> None:
        exact: dict[str, dict[int, frozenset[Pair]]] = {}
        loose: dict[str, dict[int, frozenset[Pair]]] = {}
        for pattern, topic, pairs in patterns:
            plain = _nameless(pattern)
            exact.setdefault(plain, {})[topic] = pairs
            for text in _variants(plain):
                loose.setdefault(text, {})[topic] = pairs
        self.same = exact == loose
        self.exact = _Patterns(exact)
        self.loose = self.exact if self.same else _Patterns(loose)

    def find(self, path: str, pairs: AbstractSet[Pair], work: Work) -> Iterator[set[int] | None]:
        """Find the topics that an interpretation means, as written and folded."""
        yield self.exact.find(path, pairs, work)
        texts = {path.lower()} if PLAIN.fullmatch(path) else folded(path)
        for text in texts:
            if not self.same or text != path:
                yield self.loose.find(text, pairs, work)


class AccessIndex:
    """The access rules of the topics of one API; a topic is its index in the given order."""

    def __init__(self, entries: Sequence[TopicAccess]) -> None:
        self._rules = [entry.rules for entry in entries]
        self._kinds = frozenset(self._rules)
        none: frozenset[Pair] = frozenset()
        client = [(name, topic, none) for topic, one in enumerate(entries) for name in one.client]
        backend = [
            (one.backend, topic, frozenset((fold(name), fold(value)) for name, value in one.query))
            for topic, one in enumerate(entries)
        ]
        self.names = frozenset(name for _, _, pairs in backend for name, _ in pairs)
        self._checked: set[tuple[int, str]] = set()
        self._client = _Namespace(client)
        self._backend = _Namespace(backend)
        # If true, a plain path in lower case means the topic that the gateway matched.
        self._lower = (
            self._client.same
            and not self.names
            and all(_nameless(one.backend) in ("", _nameless(one.name)) for one in entries)
        )

    def has_stricter(self, topic: int) -> bool:
        """Return whether another topic has stricter rules than this one."""
        mine = self._rules[topic]
        return not all(mine.covers(other) for other in self._kinds)

    def is_known(self, topic: int, path: str) -> bool:
        """Return whether a path is known to have no conflict."""
        if (topic, path) in self._checked:
            return True
        return self._lower and PLAIN.fullmatch(path) is not None and path == path.lower()

    def remember(self, topic: int, path: str) -> None:
        """Remember that a path has no conflict, unless that depends on the query."""
        if not self.names and len(path) <= MAX_CACHED_LENGTH:
            if len(self._checked) >= MAX_CACHED:
                self._checked.clear()
            self._checked.add((topic, path))

    def client_conflict(self, topic: int, path: str, work: Work) -> bool:
        """Return whether an interpretation of the client's path means a stricter topic.

        Raises WorkError.
        """
        return self._conflict(self._client, topic, path, frozenset(), work)

    def backend_conflict(self, topic: int, path: str, pairs: AbstractSet[Pair], work: Work) -> bool:
        """Return whether an interpretation of the backend's path and query is a stricter topic.

        Raises WorkError.
        """
        return self._conflict(self._backend, topic, path, pairs, work)

    def _conflict(
        self, namespace: _Namespace, topic: int, path: str, pairs: AbstractSet[Pair], work: Work
    ) -> bool:
        mine = self._rules[topic]
        return any(
            found is not None
            and topic not in found
            and not all(mine.covers(self._rules[other]) for other in found)
            for found in namespace.find(path, pairs, work)
        )


def _nameless(pattern: str) -> str:
    """Give all parameters the same name, so that equivalent patterns are equal."""
    return PARAMETER.sub("{p}", pattern.partition("?")[0]).removesuffix("/")


def _variants(pattern: str) -> Iterable[str]:
    """Return the folded interpretations of a pattern; most patterns have one."""
    if PLAIN.fullmatch(pattern.replace("{p}", "x").removesuffix("/*")):
        return (pattern.lower(),)
    wildcard = pattern.endswith("/*")
    path = pattern.removesuffix("/*").replace("{p}", _MARK)
    try:
        found = interpretations(path)
    except TooManyInterpretationsError:  # not a realistic topic: use the path as written
        found = {path}
    texts = {text for each in found for text in folded(each)}
    return {
        text.removesuffix("/").replace(_MARK, "{p}") + "/*" * wildcard
        for text in texts
        if not {"{", "}", "?"} & set(text)
    }
