"""Connections without a request: which of them a new connection displaces."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count

from trio_gw.guard.caps import PLACES, Caps
from trio_gw.guard.pending import Pending, PendingEntry
from trio_gw.supervision.shared_memory import Counters


class Door:
    """Connections by their order of arrival, and those of them that were ended."""

    def __init__(self, most: int, per_host: int, caps: Caps | None = None) -> None:
        self.ended: list[int] = []
        self.pending = Pending(
            caps or Caps(Counters(1, PLACES)), most, per_host, lambda address: address == "proxy"
        )
        self._numbers = count()

    def come(self, address: str) -> PendingEntry:
        number = next(self._numbers)
        return self.pending.enter(address, lambda: self.ended.append(number))


def test_the_oldest_of_the_same_host_makes_room() -> None:
    door = Door(0, 2)
    for address in ("a", "b", "a", "a", "b", "a"):
        door.come(address)
    assert door.ended == [0, 2]
    assert len(door.pending) == 4
    assert door.pending.evicted == {"address": 2}


def test_the_oldest_of_the_host_that_has_most_makes_room() -> None:
    door = Door(4, 0)
    for address in ("a", "b", "b", "b"):
        door.come(address)
    assert door.ended == []
    for address in ("c", "d", "e", "f"):
        door.come(address)
    assert door.ended == [
        1,
        2,
        0,
        4,
    ]  # in the end each address has one connection; the oldest is displaced


def test_addresses_of_one_network_are_one_host_and_those_of_a_proxy_are_many() -> None:
    door = Door(0, 1)
    door.come("2001:db8::1")
    door.come("2001:db8::ffff%eth0")
    assert door.ended == [0]
    for _ in range(3):
        door.come("proxy")
    door.come("2001:db8:0:1::1")
    assert door.ended == [0]


def test_processes_count_together_and_a_first_connection_is_let_in() -> None:
    counters = Counters(2, PLACES)
    one, two = (Door(3, 0, Caps(counters, index)) for index in (0, 1))
    for _ in range(3):
        one.come("a")
    two.come("b")
    assert (one.ended, two.ended) == ([], [])
    two.come("a")
    assert (one.ended, two.ended) == ([], [0])
    one.come("b")
    assert one.ended == [0]


def test_room_is_made_once_for_those_that_are_about_to_leave() -> None:
    door = Door(0, 0)
    entries = [door.come("a") for _ in range(3)]
    assert door.pending.make_room("descriptors", 2)
    assert door.ended == [0, 1]
    assert door.pending.make_room("descriptors", 2)
    assert door.ended == [0, 1]
    door.pending.leave(entries[0])
    assert door.pending.make_room("descriptors", 2)
    assert not door.pending.make_room("descriptors", 3)
    assert door.ended == [0, 1, 2]


def test_whoever_is_ended_is_of_a_host_that_has_most() -> None:
    rng = random.Random(5)
    door = Door(0, 0)
    here: dict[int, tuple[str, PendingEntry]] = {}
    for number in range(3000):
        address = rng.choice("aaaabbcde")
        here[number] = address, door.come(address)
        if rng.random() < 0.3:
            _, entry = here.pop(rng.choice(list(here)))
            door.pending.leave(entry)
        if rng.random() < 0.6 and here:
            sizes = Counter(address for address, _ in here.values())
            assert door.pending.evict("all")
            address, entry = here.pop(door.ended[-1])
            door.pending.leave(entry)
            assert sizes[address] == max(sizes.values())
            older = [one for one, (where, _) in here.items() if where == address]
            assert not older or min(older) > door.ended[-1]
        assert len(door.pending) == len(here)
