"""Path segments that mix parameters and literals, such as `{id}.json` or `room-{a}-{b}`.

`SegmentPatterns` is an index of such patterns: `find` returns those that match a segment. A
pattern is found by three kinds of literals, each looked up in a dictionary: the prefix before the
first parameter, the suffix after the last one, and the inner literals between parameters. So the
cost depends on the length of the segment and the number of matching patterns, not on the number
of all patterns.

Greedy regular expressions make the leftmost parameter as long as possible. Placing every inner
literal at its last possible position, starting from the right, gives the same values without
backtracking. So the inner literals of patterns with the same prefix and suffix form a tree that
is read from right to left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Optional, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

Texts = Optional[tuple["Texts", str]]  # noqa: UP045 - `|` takes no forward reference
"""Captured values as a linked list: the values before the last one, and the last one."""

GRAM = 4  # first characters of an inner literal, used as its key
FEW = 8  # up to this number, inner literals are searched one by one

# Characters that can be processed in the time of one step.
SCANNED, LOOKED_UP = 2048, 32


class WorkError(Exception):
    """Matching one path took more steps than allowed."""


class Work:
    """The number of steps left for matching one path. Raises `WorkError` when none is left."""

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Use up some steps."""
        self.left -= steps
        if self.left < 0:
            raise WorkError


class _Inner(Generic[T]):
    """A tree node of inner literals, from the right.

    `children` are the literals that may follow; `found` is the value of the pattern that ends
    here. Literals are stored reversed. `grams` maps the first characters of a literal, grouped by
    their number, to the lengths of the literals that start with them.
    """

    __slots__ = ("children", "found", "grams")

    def __init__(self) -> None:
        self.found: T | None = None
        self.children: dict[str, _Inner[T]] = {}
        self.grams: dict[int, dict[str, set[int]]] = {}

    def child(self, literal: str) -> _Inner[T]:
        """Return the node after a literal; create it if it is missing."""
        if (known := self.children.get(literal)) is not None:
            return known
        gram = literal[:GRAM]
        self.grams.setdefault(len(gram), {}).setdefault(gram, set()).add(len(literal))
        made = self.children[literal] = _Inner()
        return made

    def positions(
        self, text: str, start: int, end: int, work: Work
    ) -> Iterator[tuple[int, int, _Inner[T]]]:
        """Find the first position of every child in `text[start:end]`, as (begin, end, child)."""
        children = self.children
        if len(children) <= FEW:
            work.spend(len(children) * (1 + (end - start) // SCANNED))
            for literal, child in children.items():
                if (at := text.find(literal, start, end)) >= 0:
                    yield at, at + len(literal), child
            return
        positions: dict[str, int] = {}
        for width, grams in self.grams.items():
            work.spend(1 + (end - start) // LOOKED_UP)
            for at in range(start, end - width + 1):
                lengths = grams.get(text[at : at + width])
                if lengths is None:
                    continue
                work.spend(len(lengths))
                for length in lengths:
                    if at + length <= end and (literal := text[at : at + length]) in children:
                        positions.setdefault(literal, at)
        for literal, at in positions.items():
            yield at, at + len(literal), children[literal]


class SegmentPatterns(Generic[T]):
    """Patterns of mixed segments, each with a value."""

    __slots__ = ("_ends", "_lengths")

    def __init__(self) -> None:
        # prefix → suffix → tree of inner literals
        self._ends: dict[str, dict[str, _Inner[T]]] = {}
        # length of a prefix → prefix → lengths of the suffixes used with it
        self._lengths: dict[int, dict[str, dict[int, None]]] = {}

    def add(self, literals: Sequence[str], make: Callable[[], T]) -> T:
        """Return the value of the pattern `lit0{p}lit1{p}…litN`; create it if it is missing."""
        first, *inner, last = literals
        self._lengths.setdefault(len(first), {}).setdefault(first, {})[len(last)] = None
        at = self._ends.setdefault(first, {}).get(last)
        if at is None:
            at = self._ends[first][last] = _Inner()
        for literal in reversed(inner):
            at = at.child(literal[::-1])
        if at.found is None:
            at.found = make()
        return at.found

    def find(self, segment: str, texts: Texts, work: Work) -> Iterator[tuple[T, Texts]]:
        """Yield the values of matching patterns, each with `texts` plus the captured values."""
        size = len(segment)
        for length, firsts in self._lengths.items():
            if length >= size:
                continue
            first = segment[:length]
            lasts = firsts.get(first)
            work.spend(1 if lasts is None else 1 + len(lasts))
            for last_length in lasts or ():
                end = size - last_length
                if end > length and (inner := self._ends[first].get(segment[end:])) is not None:
                    yield from _place(inner, segment[length:end], texts, work)


def _place(root: _Inner[T], middle: str, texts: Texts, work: Work) -> Iterator[tuple[T, Texts]]:
    """Place inner literals so that every parameter has at least one character."""
    backwards, size = middle[::-1], len(middle)
    # Values captured so far, from the right; the last captured value is outermost.
    stack: list[tuple[_Inner[T], int, Texts]] = [(root, 0, None)]
    while stack:
        node, start, after = stack.pop()
        work.spend(1)
        if node.found is not None:
            found: Texts = (texts, middle[: size - start])
            left = after
            while left is not None:
                left, text = left
                found = (found, text)
            yield node.found, found
        if not node.children:
            continue
        for at, end, child in node.positions(backwards, start + 1, size - 1, work):
            stack.append((child, end, (after, middle[size - at : size - start])))
