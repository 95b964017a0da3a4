"""Caps on connections, counted by several processes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from trio_gw.guard.caps import PLACES, Caps, ConnectionCap, FullError
from trio_gw.supervision.shared_memory import Counters

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def holding(caps: Caps, *wanted: ConnectionCap) -> Iterator[None]:
    """Hold a connection while the context lasts."""
    places = caps.take(wanted)
    try:
        yield
    finally:
        caps.leave(places)


def test_so_many_and_no_more_whoever_holds_them() -> None:
    counters = Counters(2, PLACES)
    one, two = Caps(counters, 0), Caps(counters, 1)
    cap = ConnectionCap("address", "10.0.0.7", 3)
    with contextlib.ExitStack() as held:
        for caps in (one, two, one):
            held.enter_context(holding(caps, cap))
        for caps in (one, two):
            with pytest.raises(FullError) as full, holding(caps, cap):
                pass
            assert full.value.cap == cap
        held.enter_context(holding(one, ConnectionCap("address", "10.0.0.8", 1)))
        held.enter_context(holding(one, ConnectionCap("API", "10.0.0.7", 1)))
    with holding(one, cap._replace(most=1)):
        pass


def test_a_refused_connection_takes_no_place_of_others() -> None:
    caps = Caps(Counters(1, PLACES))
    wide, narrow = ConnectionCap("gateway", "", 9), ConnectionCap("API", "a", 1)
    with holding(caps, wide, narrow):
        for _ in range(20):
            with pytest.raises(FullError), holding(caps, wide, narrow):
                pass
        with holding(caps, wide._replace(most=2)):
            pass


def test_a_process_that_died_takes_its_connections_along() -> None:
    counters = Counters(2, PLACES)
    cap = ConnectionCap("gateway", "", 1)
    Caps(counters, 1).take([cap])
    counters.clear(1)
    with holding(Caps(counters, 0), cap):
        pass


@pytest.mark.parametrize("processes", [1, 3])
def test_thousands_of_keys_do_not_share_a_count(processes: int) -> None:
    """Each address may have one connection, and has it in one of the processes."""
    counters = Counters(processes, PLACES)
    every = [Caps(counters, index) for index in range(processes)]
    refused = 0
    for number in range(10_000):
        try:
            every[number % processes].take([ConnectionCap("address", str(number), 1)])
        except FullError:
            refused += 1
    # One process counts exactly. With several, other keys may use both slots of a key.
    assert refused <= (0 if processes == 1 else 150)
