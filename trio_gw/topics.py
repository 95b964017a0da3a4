"""Matching a request path against the topics of one API.

`TopicMatcher` is compiled once from channel names and then only read. It gives the same answer
as trying one anchored pattern per topic in the order of `sort_key` (spec: routing §2 and §3),
but walks a tree of path segments instead, so its cost follows the depth of the path, not the
number of topics, and no input can make it backtrack. Where topics are so alike that a path would
be compared with very many of them, matching gives up (`STEPS`).

Theory of operation. A channel name is cut at `/` into segments. A segment is a *literal*, a
whole *parameter* (`{id}`), or *mixed* (`{id}.json`, see `segments`). Every tree node knows the
best (lowest) rank below it, so a branch that cannot beat what was already found is not entered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.segments import Segments, Texts, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARAMETER = re.compile(r"\{([^{}/]*)\}")
_LETTERS = re.compile(r"[A-Za-z0-9_\s]+")
_NEVER = 1 << 62

STEPS = 4096  # segments that one path is compared with; a few milliseconds


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
    return tuple(PARAMETER.findall(pattern_of(channel)))


class _Node:
    """One place in the tree. `leaf` and `wildcard` hold the rank of the topic ending here."""

    __slots__ = ("best", "leaf", "literals", "mixed", "parameter", "wildcard")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.mixed: Segments[_Node] | None = None
        self.parameter: _Node | None = None
        self.leaf = self.wildcard = self.best = _NEVER

    def child(self, segment: str) -> _Node:
        """Return the node for a segment of a channel name, made when it is not there yet."""
        literals = PARAMETER.split(segment)[::2]
        if len(literals) == 1:
            return self.literals.setdefault(segment, _Node())
        if literals == ["", ""]:
            if self.parameter is None:
                self.parameter = _Node()
            return self.parameter
        if self.mixed is None:
            self.mixed = Segments()
        return self.mixed.add(literals, _Node)


class TopicMatcher:
    """The compiled topics of one API; ranks are positions in the given, sorted sequence."""

    def __init__(self, channels: Sequence[str], pause: Callable[[], None] = lambda: None) -> None:
        """Compile; `pause` is called with each channel."""
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

        `rest` is empty or starts with `/`. Returns the topic's rank and the raw text of its
        parameters, left to right. Raises `WorkError` when topics are so alike that it takes more
        `work` than given, or than `STEPS`.
        """
        segments = rest.split("/")[1:]
        count = len(segments)
        # One optional trailing slash: a last, empty segment need not be consumed.
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
            # Literals are pushed last, so taken first: they usually hold the best rank.
            if (literal := node.literals.get(segment)) is not None:
                stack.append((literal, at, texts))
        return None if best == _NEVER else (best, _in_order(captured))


def _in_order(texts: Texts) -> tuple[str, ...]:
    found: list[str] = []
    while texts is not None:
        texts, text = texts
        found.append(text)
    return tuple(reversed(found))
