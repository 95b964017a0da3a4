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
    from collections.abc import Iterable, Mapping, Sequence

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

    def covers(self, other: Demand) -> bool:
        """Tell whether who may use this topic may use the other one in the same way."""
        if any(other.limits) and other.limits != self.limits:
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

    Paths are patterns in the syntax of channel names. `query` are the parameters that the
    topic's mapping gives the backend with a fixed value.
    """

    client: tuple[str, ...]
    backend: str
    query: tuple[Pair, ...]
    demand: Demand


class _Owners:
    """The topics of one pattern: those of any query, and those that need certain parameters."""

    __slots__ = ("any", "needs", "needy")

    def __init__(self) -> None:
        self.any: set[int] = set()
        self.needs: dict[int, frozenset[Pair]] = {}
        self.needy: dict[Pair, list[int]] = {}  # by that of its parameters which is the rarest

    def index(self) -> None:
        counts = Counter(pair for pairs in self.needs.values() for pair in pairs)
        for topic, pairs in self.needs.items():
            self.needy.setdefault(min(pairs, key=lambda pair: (counts[pair], pair)), []).append(
                topic
            )

    def of(self, pairs: Iterable[Pair]) -> set[int]:
        """Name the topics of a request: those that need the parameters it has, else the others."""
        having = set(pairs)
        found = {
            topic
            for pair in having
            for topic in self.needy.get(pair, ())
            if self.needs[topic] <= having
        }
        return found or self.any


class _Space:
    """Patterns of paths, and whose they are."""

    __slots__ = ("matcher", "owners")

    def __init__(self, patterns: Mapping[str, Mapping[int, frozenset[Pair]]]) -> None:
        names = sorted(patterns, key=sort_key)
        self.matcher = TopicMatcher(names)
        self.owners: list[_Owners] = []
        for name in names:
            owners = _Owners()
            for topic, pairs in patterns[name].items():
                if pairs:
                    owners.needs[topic] = pairs
                else:
                    owners.any.add(topic)
            owners.index()
            self.owners.append(owners)

    def find(self, path: str, pairs: Iterable[Pair], work: Work) -> set[int] | None:
        found = self.matcher.match(path, work)
        return None if found is None else self.owners[found[0]].of(pairs)


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
        self._client = _spaces(client)
        self._backend = _spaces(backend)

    def stricter(self, topic: int) -> bool:
        """Tell whether there is a topic that asks for more than this one."""
        mine = self._demands[topic]
        return not all(mine.covers(other) for other in self._kinds)

    def is_known(self, topic: int, path: str) -> bool:
        """Tell whether a path was found to conflict with nothing."""
        return (topic, path) in self._known

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
        return self._conflict(self._client, topic, path, (), work)

    def backend_conflict(self, topic: int, path: str, pairs: Iterable[Pair], work: Work) -> bool:
        """Tell the same of a reading of the path, and parameters, that a backend is asked for.

        Raises WorkError.
        """
        return self._conflict(self._backend, topic, path, pairs, work)

    def _conflict(
        self,
        spaces: tuple[_Space, _Space],
        topic: int,
        path: str,
        pairs: Iterable[Pair],
        work: Work,
    ) -> bool:
        exact, loose = spaces
        finds = [exact.find(path, pairs, work)]
        finds += [loose.find(text, pairs, work) for text in folded(path)]
        mine = self._demands[topic]
        return any(
            found is not None
            and topic not in found
            and not all(mine.covers(self._demands[other]) for other in found)
            for found in finds
        )


def _spaces(patterns: Iterable[tuple[str, int, frozenset[Pair]]]) -> tuple[_Space, _Space]:
    exact: dict[str, dict[int, frozenset[Pair]]] = {}
    loose: dict[str, dict[int, frozenset[Pair]]] = {}
    for pattern, topic, pairs in patterns:
        plain = _nameless(pattern)
        exact.setdefault(plain, {})[topic] = pairs
        for text in _variants(plain):
            loose.setdefault(text, {})[topic] = pairs
    return _Space(exact), _Space(loose)


def _nameless(pattern: str) -> str:
    """Give all parameters one name, so that patterns which match the same are the same."""
    return PARAMETER.sub("{p}", pattern.partition("?")[0]).removesuffix("/")


def _variants(pattern: str) -> Iterable[str]:
    """Read a pattern as its paths are read, and fold it; most have one reading."""
    wildcard = pattern.endswith("/*")
    path = pattern.removesuffix("/*").replace("{p}", _MARK)
    if PLAIN.fullmatch(path.replace(_MARK, "x")):
        found = {path}
    else:
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
