"""Finds the range that contains an address, among any number of overlapping ranges.

Built once, then only read: the ranges are cut into pieces that do not overlap, so a look-up is one
binary search. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Generic, TypeVar

from trio_gw.config.conditions import Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Named = TypeVar("Named")

LARGEST = {4: (1 << 32) - 1, 6: (1 << 128) - 1}


class Ranges(Generic[Named]):
    """Finds a name whose range contains an address."""

    __slots__ = ("_ends", "_names", "_starts")

    def __init__(self, named: Iterable[tuple[Range, Named]]) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        self._names: dict[int, list[Named]] = {4: [], 6: []}
        # Of ranges with the same start the longest comes first: it contains the others.
        ordered = sorted(named, key=lambda one: (one[0].version, one[0].first, -one[0].last))
        for (version, first, last), name in ordered:
            ends = self._ends[version]
            begin = max(first, ends[-1] + 1) if ends else first
            if begin <= last:
                self._starts[version].append(begin)
                ends.append(last)
                self._names[version].append(name)

    def find(self, version: int, number: int) -> Named | None:
        """Return a name whose range contains this address, None if there is none."""
        place = bisect_right(self._starts[version], number) - 1
        if place >= 0 and number <= self._ends[version][place]:
            return self._names[version][place]
        return None


def outside(inside: Range) -> Iterator[Range]:
    """Yield the ranges of all other addresses, including the other version of IP."""
    version, first, last = inside
    if first:
        yield Range(version, 0, first - 1)
    if last < LARGEST[version]:
        yield Range(version, last + 1, LARGEST[version])
    other = 10 - version
    yield Range(other, 0, LARGEST[other])
