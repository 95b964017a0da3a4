"""Which topic of an API a reading of a path is, and whether it asks more of its callers.

Compiled with the routes of an API, for those APIs whose topics do not all ask for the same.
`proxy.path_confusion` asks it about readings (`path_readings`).

There are two spaces: the paths that clients ask for, and what backends are asked for. In each,
the pattern that is tried first is what a reading is taken for, as in `routes`; once with the
letters as they are, and once without their case.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.path_readings import PLAIN, TooManyReadingsError, fold, folded, readings
from trio_gw.topics import PARAMETER, TopicMatcher, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from trio_gw.segments import Work

Pair = tuple[str, str]

MOST_KNOWN, MAX_KNOWN = 1000, 256  # paths that were found harmless, and their length

_MARK = "\ue000"  # stands for a parameter while a pattern is read as a path


class Demand(NamedTuple):
    """What a topic asks of its callers, and how it limits what they send."""

    secured: bool
    scopes: frozenset[str] | None
    api_keys: frozenset[object]
    limits: tuple[object, ...]  # None and empty texts where there are none
    plain_http: bool = False

    def covers(self, other: Demand) -> bool:
        """Tell whether who may use this topic may use the other one in the same way."""
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


class Entry(NamedTuple):
    """One topic: the paths it answers to, what it asks of the backend, and of its callers.

    Paths are patterns in the syntax of channel names; those of clients are the topic's `name`
    below each of the base paths. `query` are the parameters that the
    topic's mapping gives the backend with a fixed value.
    """

    name: str
    client: tuple[str, ...]
    backend: str
    query: tuple[Pair, ...]
    demand: Demand


class _Owners:
    """The topics of one pattern: those of any query, and those that need certain parameters."""

    __slots__ = ("any", "needs", "needy")

    def __init__(self, topics: Mapping[int, frozenset[Pair]]) -> None:
        self.any = {topic for topic, pairs in topics.items() if not pairs}
        self.needs = {topic: pairs for topic, pairs in topics.items() if pairs}
        self.needy: dict[Pair, list[int]] = {}  # by that of its parameters which is the rarest
        counts = Counter(pair for pairs in self.needs.values() for pair in pairs)
        for topic, pairs in self.needs.items():
            rarest = min(pairs, key=lambda pair: (counts[pair], pair))
            self.needy.setdefault(rarest, []).append(topic)

    def of(self, having: AbstractSet[Pair]) -> set[int]:
        """Name the topics of a request: those that need the parameters it has, else the others."""
        found = {
            topic
            for pair in having
            for topic in self.needy.get(pair, ())
            if self.needs[topic] <= having
        }
        return found or self.any


class _Patterns:
    """Patterns of paths, and whose they are."""

    __slots__ = ("matcher", "owners")

    def __init__(self, patterns: Mapping[str, Mapping[int, frozenset[Pair]]]) -> None:
        names = sorted(patterns, key=sort_key)
        self.matcher = TopicMatcher(names)
        self.owners: list[set[int] | _Owners] = []
        for name in names:
            topics = patterns[name]
            self.owners.append(_Owners(topics) if any(topics.values()) else set(topics))

    def find(self, path: str, having: AbstractSet[Pair], work: Work) -> set[int] | None:
        if (found := self.matcher.match(path, work)) is None:
            return None
        owners = self.owners[found[0]]
        return owners.of(having) if isinstance(owners, _Owners) else owners


class _Space:
    """Patterns as they are written, and as they are compared without case.

    `same` tells that both are the same, as where all names are in lower case.
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

    def find(self, path: str, having: AbstractSet[Pair], work: Work) -> Iterator[set[int] | None]:
        """Find what a reading is taken for; plain ones are compared without more ado."""
        yield self.exact.find(path, having, work)
        texts = {path.lower()} if PLAIN.fullmatch(path) else folded(path)
        for text in texts:
            if not self.same or text != path:
                yield self.loose.find(text, having, work)


class Demands:
    """The topics of one API by what they ask for; a topic is its place in the given order."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._demands = [entry.demand for entry in entries]
        self._kinds = frozenset(self._demands)
        none: frozenset[Pair] = frozenset()
        client = [(name, topic, none) for topic, one in enumerate(entries) for name in one.client]
        backend = [
            (one.backend, topic, frozenset((fold(name), fold(value)) for name, value in one.query))
            for topic, one in enumerate(entries)
        ]
        self.names = frozenset(name for _, _, pairs in backend for name, _ in pairs)
        self._known: set[tuple[int, str]] = set()
        self._client = _Space(client)
        self._backend = _Space(backend)
        # Then a plain path is what the gateway's own match took it for, and nothing else.
        self._lower = (
            self._client.same
            and not self.names
            and all(_nameless(one.backend) in ("", _nameless(one.name)) for one in entries)
        )

    def stricter(self, topic: int) -> bool:
        """Tell whether there is a topic that asks for more than this one."""
        mine = self._demands[topic]
        return not all(mine.covers(other) for other in self._kinds)

    def is_known(self, topic: int, path: str) -> bool:
        """Tell whether a path is known to conflict with nothing."""
        if (topic, path) in self._known:
            return True
        return self._lower and PLAIN.fullmatch(path) is not None and path == path.lower()

    def remember(self, topic: int, path: str) -> None:
        """Note that a path conflicts with nothing; not where it depends on the query."""
        if not self.names and len(path) <= MAX_KNOWN:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known.add((topic, path))

    def client_conflict(self, topic: int, path: str, work: Work) -> bool:
        """Tell whether a reading of the path that was asked for is a topic that asks for more.

        Raises WorkError.
        """
        return self._conflict(self._client, topic, path, frozenset(), work)

    def backend_conflict(self, topic: int, path: str, pairs: AbstractSet[Pair], work: Work) -> bool:
        """Tell the same of a reading of the path, and parameters, that a backend is asked for.

        Raises WorkError.
        """
        return self._conflict(self._backend, topic, path, pairs, work)

    def _conflict(
        self, space: _Space, topic: int, path: str, having: AbstractSet[Pair], work: Work
    ) -> bool:
        mine = self._demands[topic]
        return any(
            found is not None
            and topic not in found
            and not all(mine.covers(self._demands[other]) for other in found)
            for found in space.find(path, having, work)
        )


def _nameless(pattern: str) -> str:
    """Give all parameters one name, so that patterns which match the same are the same."""
    return PARAMETER.sub("{p}", pattern.partition("?")[0]).removesuffix("/")


def _variants(pattern: str) -> Iterable[str]:
    """Read a pattern as its paths are read, and fold it; most have one reading."""
    if PLAIN.fullmatch(pattern.replace("{p}", "x").removesuffix("/*")):
        return (pattern.lower(),)
    wildcard = pattern.endswith("/*")
    path = pattern.removesuffix("/*").replace("{p}", _MARK)
    try:
        found = readings(path)
    except TooManyReadingsError:  # nobody writes such a topic; the path as it is written
        found = {path}
    texts = {text for each in found for text in folded(each)}
    return {
        text.removesuffix("/").replace(_MARK, "{p}") + "/*" * wildcard
        for text in texts
        if not {"{", "}", "?"} & set(text)
    }
