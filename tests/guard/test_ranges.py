"""Ranges of addresses: the look-up agrees with a linear search, however ranges overlap."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config.conditions import Range
from trio_gw.guard.ranges import LARGEST, Ranges, outside

SMALL = 40  # few numbers, so that ranges overlap often


def ranges(version: int) -> st.SearchStrategy[Range]:
    near = st.integers(0, SMALL) | st.integers(LARGEST[version] - SMALL, LARGEST[version])
    numbers = near | st.integers(0, LARGEST[version])
    pairs = st.tuples(numbers, numbers).map(sorted)
    return pairs.map(lambda pair: Range(version, pair[0], pair[1]))


ANY = ranges(4) | ranges(6)


def holds(one: Range, version: int, number: int) -> bool:
    return one.version == version and one.first <= number <= one.last


def around(given: list[Range]) -> set[tuple[int, int]]:
    """List the addresses at which the result may change: ends of ranges and neighbours."""
    found = {(version, edge) for version in (4, 6) for edge in (0, LARGEST[version])}
    for version, first, last in given:
        for number in (first - 1, first, first + 1, last - 1, last, last + 1):
            if 0 <= number <= LARGEST[version]:
                found |= {(version, number), (10 - version, number & LARGEST[4])}
    return found


@given(st.lists(ANY, max_size=12))
def test_an_address_is_found_if_a_range_holds_it(given: list[Range]) -> None:
    found = Ranges((one, place) for place, one in enumerate(given))
    for version, number in around(given):
        place = found.find(version, number)
        if place is None:
            assert not any(holds(one, version, number) for one in given)
        else:
            assert holds(given[place], version, number)


@given(st.lists(st.tuples(ANY, st.booleans()), max_size=6))
def test_inverted_ranges_hold_all_that_is_outside(given: list[tuple[Range, bool]]) -> None:
    named = [
        (piece, place)
        for place, (one, inverted) in enumerate(given)
        for piece in (outside(one) if inverted else (one,))
    ]
    found = Ranges(named)
    for version, number in around([one for one, _ in given]):
        expected = {
            place
            for place, (one, inverted) in enumerate(given)
            if holds(one, version, number) is not inverted
        }
        place = found.find(version, number)
        assert (place in expected) if expected else place is None


@given(ANY)
def test_outside_and_inside_are_everything_and_disjoint(one: Range) -> None:
    pieces = [one, *outside(one)]
    for version in (4, 6):
        own = sorted(piece for piece in pieces if piece.version == version)
        assert own[0].first == 0
        assert own[-1].last == LARGEST[version]
        for before, after in itertools.pairwise(own):
            assert before.last + 1 == after.first
