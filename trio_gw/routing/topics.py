"""Match a request path against the topics of one API.

`TopicMatcher` is compiled once from channel names and then only read. The result is the same as
trying one anchored pattern per topic in the order of `sort_key` (spec: routing §2 and §3). But it
walks a tree of path segments, so the cost depends on the depth of the path, not on the number of
topics, and no input causes backtracking. If topics are so similar that a path must be compared
with very many of them, matching stops after `STEPS` comparisons.

Theory of operation. A channel name is split at `/` into segments. A segment is a *literal*, a
whole *parameter* (`{id}`), or *mixed* (`{id}.json`, see `segments`). Every tree node knows the
lowest (best) rank below it, so a branch that cannot improve the result is not visited.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.routing.segments import SegmentPatterns, Texts, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARAMETER = re.compile(r"\{([^{}/]*)\}")
_LETTERS = re.compile(r"[A-Za-z0-9_\s]+")
_NEVER = 1 << 62

STEPS = 4096  # segment comparisons for one path; takes a few milliseconds


def sort_key(channel: str) -> tuple[bool, bool, str, str, str]:
    """Return the sort key of a topic, as in the reference (spec: routing §3): first match wins.

    There are two differences, where the reference is undefined or wrong. Characters above `{`
    sort below it, so that `/{x}` does not shadow a literal such as `/a~b`. Names with the same
    reduced form are sorted as plain text.
    """
    name = pattern_of(channel)
    reduced = "".join("z" if c > "{" and c != "}" else c for c in _LETTERS.sub("", name))
    return name.endswith("/*"), "." not in name, reduced, name, channel


def pattern_of(channel: str) -> str:
    """Return a channel name without the part that matching ignores, from the first `?` on."""
    return channel.partition("?")[0]


def parameters_of(channel: str) -> tuple[str, ...]:
    """List the parameters of a channel, left to right."""
    return tuple(PARAMETER.findall(pattern_of(channel)))


class _Node:
    """A tree node. `leaf` and `wildcard` are the ranks of the topics that end here."""

    __slots__ = ("best", "leaf", "literals", "mixed", "parameter", "wildcard")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.mixed: SegmentPatterns[_Node] | None = None
        self.parameter: _Node | None = None
        self.leaf = self.wildcard = self.best = _NEVER

    def child(self, segment: str) -> _Node:
        """Return the node for a segment of a channel name; create it if it is missing."""
        literals = PARAMETER.split(segment)[::2]
        if len(literals) == 1:
            return self.literals.setdefault(segment, _Node())
        if literals == ["", ""]:
            if self.parameter is None:
                self.parameter = _Node()
            return self.parameter
        if self.mixed is None:
            self.mixed = SegmentPatterns()
        return self.mixed.add(literals, _Node)


class TopicMatcher:
    """The compiled topics of one API. A rank is a position in the given, sorted sequence."""

    def __init__(self, channels: Sequence[str], pause: Callable[[], None] = lambda: None) -> None:
        """Compile `channels`; `pause` is called once per channel."""
        self._root = _Node()
        for rank, channel in enumerate(channels):
            pause()
            self._add(pattern_of(channel), rank)

    def _add(self, name: str, rank: int) -> None:
        wildcard = name.endswith("/*")
        name = name[:-2] if wildcard else name.removesuffix("/")
        node = self._root
        node.best = min(node.best, rank)
        for segment in name.split("/")[1:]:
            node = node.child(segment)
            node.best = min(node.best, rank)
        if wildcard:
            node.wildcard = min(node.wildcard, rank)
        else:
            node.leaf = min(node.leaf, rank)

    def match(self, rest: str, work: Work | None = None) -> tuple[int, tuple[str, ...]] | None:
        """Find the first topic, in order, that matches the path below the base path.

        `rest` is empty or starts with `/`. Returns the rank of the topic and the raw values of
        its parameters, left to right. Raises `WorkError` when topics are so similar that matching
        takes more steps than `work` allows (by default `STEPS`).
        """
        segments = rest.split("/")[1:]
        count = len(segments)
        # A trailing slash is optional: the last segment, if empty, need not be consumed.
        enough = count - 1 if count and not segments[-1] else count
        best = _NEVER
        captured: Texts = None
        work = work or Work(STEPS)
        stack: list[tuple[_Node, int, Texts]] = [(self._root, 0, None)]
        while stack:
            node, at, texts = stack.pop()
            if node.best >= best:
                continue
            work.spend(1)
            if at >= enough and node.leaf < best:
                best, captured = node.leaf, texts
            if node.wildcard < best:
                best, captured = node.wildcard, texts
            if at == count:
                continue
            segment = segments[at]
            at += 1
            if node.parameter is not None and segment:
                stack.append((node.parameter, at, (texts, segment)))
            if node.mixed is not None:
                for below, more in node.mixed.find(segment, texts, work):
                    if below.best < best:
                        stack.append((below, at, more))
            # Literals are pushed last and popped first: they usually have the best rank.
            if (literal := node.literals.get(segment)) is not None:
                stack.append((literal, at, texts))
        return None if best == _NEVER else (best, _to_tuple(captured))


def _to_tuple(texts: Texts) -> tuple[str, ...]:
    found: list[str] = []
    while texts is not None:
        texts, text = texts
        found.append(text)
    return tuple(reversed(found))
