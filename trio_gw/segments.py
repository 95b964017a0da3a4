"""Path segments that hold parameters beside literals, such as `{id}.json` or `room-{a}-{b}`.

`Segments` is an index of such patterns: `find` gives those that match a segment. A pattern is
found by its literal before the first parameter, its literal after the last one, and the literals
between parameters, each looked up in a dictionary; so the cost follows the length of the segment
and the number of patterns that fit it, not the number of patterns.

Greedy expressions give the leftmost parameter as much as they can. Placing every inner literal as
late as it fits, from the right, finds exactly that assignment, without backtracking; so the inner
literals of patterns with the same ends make a tree, read from the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Optional, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

Texts = Optional[tuple["Texts", str]]  # noqa: UP045 - `|` takes no forward reference
"""Captured texts, linked: all before the last one, and the last one."""

GRAM = 4  # characters at the beginning of an inner literal by which it is looked up
FEW = 8  # inner literals that are looked for one by one

# Characters that can be gone through in one step's time.
SCANNED, LOOKED_UP = 2048, 32


class WorkError(Exception):
    """Matching one path took more steps than it may."""


class Work:
    """The steps that matching one path may still take. Raises `WorkError` when they are spent."""

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take some."""
        self.left -= steps
        if self.left < 0:
            raise WorkError


class _Inner(Generic[T]):
    """Inner literals, from the right: those that may follow, and what is reached without more.

    Literals are kept backwards. `grams` maps, by its length, the beginning of such a literal to
    the lengths of those that have it.
    """

    __slots__ = ("children", "found", "grams")

    def __init__(self) -> None:
        self.found: T | None = None
        self.children: dict[str, _Inner[T]] = {}
        self.grams: dict[int, dict[str, set[int]]] = {}

    def child(self, literal: str) -> _Inner[T]:
        """Return what follows a literal, made when it is not there yet."""
        if (known := self.children.get(literal)) is not None:
            return known
        gram = literal[:GRAM]
        self.grams.setdefault(len(gram), {}).setdefault(gram, set()).add(len(literal))
        made = self.children[literal] = _Inner()
        return made

    def places(
        self, text: str, start: int, end: int, work: Work
    ) -> Iterator[tuple[int, int, _Inner[T]]]:
        """Find the first place of every child between these: where it begins and ends."""
        children = self.children
        if len(children) <= FEW:
            work.spend(len(children) * (1 + (end - start) // SCANNED))
            for literal, child in children.items():
                if (at := text.find(literal, start, end)) >= 0:
                    yield at, at + len(literal), child
            return
        places: dict[str, int] = {}
        for width, grams in self.grams.items():
            work.spend(1 + (end - start) // LOOKED_UP)
            for at in range(start, end - width + 1):
                lengths = grams.get(text[at : at + width])
                if lengths is None:
                    continue
                work.spend(len(lengths))
                for length in lengths:
                    if at + length <= end and (literal := text[at : at + length]) in children:
                        places.setdefault(literal, at)
        for literal, at in places.items():
            yield at, at + len(literal), children[literal]


class Segments(Generic[T]):
    """Patterns, each with what it stands for."""

    __slots__ = ("_ends", "_lengths")

    def __init__(self) -> None:
        # literal before the first parameter → literal after the last one → the inner ones
        self._ends: dict[str, dict[str, _Inner[T]]] = {}
        # How long the former are; and with each of them, how long the latter are.
        self._lengths: dict[int, dict[str, dict[int, None]]] = {}

    def add(self, literals: Sequence[str], make: Callable[[], T]) -> T:
        """Return what the pattern `lit0{p}lit1{p}…litN` stands for, made when it is not there."""
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
        """Find what matching patterns stand for, each with `texts` and the captured ones."""
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
                    yield from _placed(inner, segment[length:end], texts, work)


def _placed(root: _Inner[T], middle: str, texts: Texts, work: Work) -> Iterator[tuple[T, Texts]]:
    """Place inner literals, leaving at least one character for every parameter."""
    backwards, size = middle[::-1], len(middle)
    # Captured so far, from the right; the last one stands outermost.
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
        for at, end, child in node.places(backwards, start + 1, size - 1, work):
            stack.append((child, end, (after, middle[size - at : size - start])))
