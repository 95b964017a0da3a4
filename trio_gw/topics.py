"""Matching a request path against the topics of one API.

`TopicMatcher` is compiled once from channel names and then only read. It gives the same answer
as trying one anchored pattern per topic in the order of `sort_key` (spec: routing §2 and §3),
but walks a tree of path segments instead, so its cost follows the depth of the path, not the
number of topics, and no input can make it backtrack.

Theory of operation. A channel name is cut at `/` into segments. A segment is a *literal*, a
whole *parameter* (`{id}`), or *mixed* (`{id}.json`). Every tree node knows the best (lowest)
rank below it, so a branch that cannot beat what was already found is not entered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_PARAMETER = re.compile(r"\{([^{}/]*)\}")
_LETTERS = re.compile(r"[A-Za-z0-9_\s]+")
_NEVER = 1 << 62


def sort_key(channel: str) -> tuple[bool, bool, str, str, str]:
    """Order topics as the reference does (spec: routing §3): first match wins.

    Two differences, both where the reference is undefined or wrong: characters above `{` sort
    below it, so that a literal such as `/a~b` is not shadowed by `/{x}`; equal names in reduced
    form fall back to plain text order.
    """
    name = pattern_of(channel)
    reduced = "".join("z" if c > "{" and c != "}" else c for c in _LETTERS.sub("", name))
    return name.endswith("/*"), "." not in name, reduced, name, channel


def pattern_of(channel: str) -> str:
    """Cut the part of a channel name that matching ignores, from its first `?` on."""
    return channel.partition("?")[0]


def parameters_of(channel: str) -> tuple[str, ...]:
    """Name the parameters of a channel, left to right."""
    return tuple(_PARAMETER.findall(pattern_of(channel)))


class _Mixed(NamedTuple):
    """A segment of literals with parameters between and around them: `lit0{p}lit1{p}…litN`."""

    literals: tuple[str, ...]

    def captures(self, segment: str) -> tuple[str, ...] | None:
        """Give each parameter its text, or None. Linear, unlike a backtracking expression.

        Greedy expressions give the leftmost parameter as much as they can; placing every inner
        literal as late as it fits, from the right, finds exactly that assignment.
        """
        first, *inner, last = self.literals
        start, end = len(first), len(segment) - len(last)
        if end <= start or not (segment.startswith(first) and segment.endswith(last)):
            return None
        found: list[str] = []
        for literal in reversed(inner):
            # Leave at least one character for the parameter on either side of the literal.
            at = segment.rfind(literal, start + 1, end - 1)
            if at < 0:
                return None
            found.append(segment[at + len(literal) : end])
            end = at
        found.append(segment[start:end])
        return tuple(reversed(found))


class _Node:
    """One place in the tree. `leaf` and `wildcard` hold the rank of the topic ending here."""

    __slots__ = ("best", "leaf", "literals", "mixed", "parameter", "prefix_lengths", "wildcard")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.mixed: dict[str, list[tuple[_Mixed, _Node]]] = {}  # by the literal before the first {
        self.prefix_lengths: tuple[int, ...] = ()
        self.parameter: _Node | None = None
        self.leaf = self.wildcard = self.best = _NEVER

    def child(self, segment: str) -> _Node:
        """Return the node for a segment of a channel name, made when it is not there yet."""
        literals = tuple(_PARAMETER.split(segment)[::2])
        if len(literals) == 1:
            return self.literals.setdefault(segment, _Node())
        if literals == ("", ""):
            if self.parameter is None:
                self.parameter = _Node()
            return self.parameter
        same_prefix = self.mixed.setdefault(literals[0], [])
        self.prefix_lengths = tuple(sorted({*self.prefix_lengths, len(literals[0])}))
        for mixed, node in same_prefix:
            if mixed.literals == literals:
                return node
        node = _Node()
        same_prefix.append((_Mixed(literals), node))
        return node


class TopicMatcher:
    """The compiled topics of one API; ranks are positions in the given, sorted sequence."""

    def __init__(self, channels: Sequence[str]) -> None:
        self._root = _Node()
        for rank, channel in enumerate(channels):
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

    def match(self, rest: str) -> tuple[int, tuple[str, ...]] | None:
        """Find the first topic, in order, that matches the path below the base path.

        `rest` is empty or starts with `/`. Returns the topic's rank and the raw text of its
        parameters, left to right.
        """
        segments = rest.split("/")[1:]
        count = len(segments)
        # One optional trailing slash: a last, empty segment need not be consumed.
        enough = count - 1 if count and not segments[-1] else count
        best = _NEVER
        captured: tuple[str, ...] = ()
        stack: list[tuple[_Node, int, tuple[str, ...]]] = [(self._root, 0, ())]
        while stack:
            node, at, texts = stack.pop()
            if node.best >= best:
                continue
            if at >= enough and node.leaf < best:
                best, captured = node.leaf, texts
            if node.wildcard < best:
                best, captured = node.wildcard, texts
            if at == count:
                continue
            segment = segments[at]
            at += 1
            if node.parameter is not None and segment:
                stack.append((node.parameter, at, (*texts, segment)))
            for length in node.prefix_lengths:
                for mixed, below in node.mixed.get(segment[:length], ()):
                    if below.best < best and (more := mixed.captures(segment)) is not None:
                        stack.append((below, at, texts + more))
            # Literals are pushed last, so taken first: they usually hold the best rank.
            if (literal := node.literals.get(segment)) is not None:
                stack.append((literal, at, texts))
        return None if best == _NEVER else (best, captured)
