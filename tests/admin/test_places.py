"""Whose connection goes when there are too many."""

from __future__ import annotations

from trio_gw.admin.places import MOST, PER_ADDRESS, UNKNOWN, Place, Places


def entered(places: Places, address: str) -> Place:
    place = places.enter(address)
    assert place is not None
    return place


async def test_an_address_has_its_share() -> None:
    places = Places()
    other = entered(places, "192.0.2.1")
    held = [entered(places, f"2001:db8::{number:x}") for number in range(PER_ADDRESS)]
    entered(places, "2001:db8::ffff")  # of the same network of 64 bits
    assert [one.scope.cancel_called for one in held] == [True] + [False] * (PER_ADDRESS - 1)
    assert not other.scope.cancel_called


async def test_who_holds_most_gives_way() -> None:
    places = Places()
    one = [entered(places, "192.0.2.1") for _ in range(3)]
    greedy = [entered(places, "192.0.2.2") for _ in range(5)]
    single = [entered(places, f"198.51.100.{number}") for number in range(UNKNOWN - 8)]
    entered(places, "203.0.113.1")
    assert greedy[0].scope.cancel_called
    held = [*one, *greedy[1:], *single]
    assert not any(place.scope.cancel_called for place in held)


async def test_who_is_known_stays_and_leaves_room() -> None:
    places = Places()
    known = [entered(places, "192.0.2.1") for _ in range(PER_ADDRESS)]
    for place in known:
        places.know(place)
        places.know(place)
    others = [entered(places, f"198.51.100.{number}") for number in range(MOST - PER_ADDRESS)]
    entered(places, "203.0.113.1")
    assert not any(place.scope.cancel_called for place in known)
    assert others[0].scope.cancel_called


async def test_nobody_known_is_ended_even_if_all_are() -> None:
    places = Places()
    for number in range(MOST):
        places.know(entered(places, f"198.51.{number >> 8}.{number & 255}"))
    assert places.enter("203.0.113.1") is None
    # Loopback has places of its own, whatever loopback address is used.
    local = [entered(places, f"127.0.0.{number}") for number in range(UNKNOWN)]
    entered(places, "::1")
    assert local[0].scope.cancel_called


async def test_who_leaves_makes_room() -> None:
    places = Places()
    for _ in range(3):
        held = [entered(places, "192.0.2.1") for _ in range(PER_ADDRESS)]
        places.know(held[0])
        for place in held:
            places.leave(place)
            places.leave(place)
        assert not any(place.scope.cancel_called for place in held)
