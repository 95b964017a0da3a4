"""Which connection is closed when there are too many."""

from __future__ import annotations

from trio_gw.admin.connection_slots import (
    MAX_CONNECTIONS,
    MAX_PER_ADDRESS,
    MAX_UNAUTHENTICATED,
    ConnectionSlot,
    ConnectionSlots,
)


def entered(slots: ConnectionSlots, address: str) -> ConnectionSlot:
    slot = slots.acquire(address)
    assert slot is not None
    return slot


async def test_an_address_has_its_share() -> None:
    slots = ConnectionSlots()
    other = entered(slots, "192.0.2.1")
    held = [entered(slots, f"2001:db8::{number:x}") for number in range(MAX_PER_ADDRESS)]
    entered(slots, "2001:db8::ffff")  # of the same network of 64 bits
    assert [one.scope.cancel_called for one in held] == [True] + [False] * (MAX_PER_ADDRESS - 1)
    assert not other.scope.cancel_called


async def test_the_address_with_most_connections_loses_one() -> None:
    slots = ConnectionSlots()
    one = [entered(slots, "192.0.2.1") for _ in range(3)]
    greedy = [entered(slots, "192.0.2.2") for _ in range(5)]
    single = [entered(slots, f"198.51.100.{number}") for number in range(MAX_UNAUTHENTICATED - 8)]
    entered(slots, "203.0.113.1")
    assert greedy[0].scope.cancel_called
    held = [*one, *greedy[1:], *single]
    assert not any(slot.scope.cancel_called for slot in held)


async def test_authenticated_connections_stay_and_others_fit() -> None:
    slots = ConnectionSlots()
    authenticated = [entered(slots, "192.0.2.1") for _ in range(MAX_PER_ADDRESS)]
    for slot in authenticated:
        slots.mark_authenticated(slot)
        slots.mark_authenticated(slot)
    others = [
        entered(slots, f"198.51.100.{number}")
        for number in range(MAX_CONNECTIONS - MAX_PER_ADDRESS)
    ]
    entered(slots, "203.0.113.1")
    assert not any(slot.scope.cancel_called for slot in authenticated)
    assert others[0].scope.cancel_called


async def test_nobody_known_is_ended_even_if_all_are() -> None:
    slots = ConnectionSlots()
    for number in range(MAX_CONNECTIONS):
        slots.mark_authenticated(entered(slots, f"198.51.{number >> 8}.{number & 255}"))
    assert slots.acquire("203.0.113.1") is None
    # Loopback has places of its own, whatever loopback address is used.
    local = [entered(slots, f"127.0.0.{number}") for number in range(MAX_UNAUTHENTICATED)]
    entered(slots, "::1")
    assert local[0].scope.cancel_called


async def test_a_released_slot_is_free() -> None:
    slots = ConnectionSlots()
    for _ in range(3):
        held = [entered(slots, "192.0.2.1") for _ in range(MAX_PER_ADDRESS)]
        slots.mark_authenticated(held[0])
        for slot in held:
            slots.release(slot)
            slots.release(slot)
        assert not any(slot.scope.cancel_called for slot in held)
