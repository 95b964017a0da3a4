"""Limits the connections of the admin listener, and chooses which one to close for a new one.

Open connections do not block new ones: for a new connection the oldest unauthenticated connection
of the address with the most connections is closed. Authenticated connections are never closed for
others, and some slots are reserved for them. Loopback has its own slots.
"""

from __future__ import annotations

import trio

from trio_gw.config.addresses import host_of, is_loopback

MAX_CONNECTIONS = 256  # connections; as many again from loopback
MAX_UNAUTHENTICATED = 192  # of these
MAX_PER_ADDRESS = 64  # of those, from one address that is not loopback


class ConnectionSlot:
    """The slot of one connection. `scope` is cancelled when another connection needs the slot."""

    __slots__ = ("address", "authenticated", "scope")

    def __init__(self, address: str) -> None:
        self.address = address
        self.authenticated = False
        self.scope = trio.CancelScope()


class _SlotPool:
    """Slots that share a limit."""

    def __init__(self, per_address: int) -> None:
        self._per_address = per_address
        self._held: set[ConnectionSlot] = set()
        # By address, the oldest first.
        self._unauthenticated: dict[str, dict[ConnectionSlot, None]] = {}
        self._count = 0  # of the unauthenticated

    def acquire(self, address: str) -> ConnectionSlot | None:
        """Take a slot; None if authenticated connections hold all of them."""
        if len(self._unauthenticated.get(address, ())) >= self._per_address:
            self._end_oldest(address)
        elif self._count >= MAX_UNAUTHENTICATED or len(self._held) >= MAX_CONNECTIONS:
            if not self._unauthenticated:
                return None
            waiting = self._unauthenticated
            self._end_oldest(max(waiting, key=lambda one: len(waiting[one])))
        slot = ConnectionSlot(address)
        self._held.add(slot)
        self._unauthenticated.setdefault(address, {})[slot] = None
        self._count += 1
        return slot

    def mark_authenticated(self, slot: ConnectionSlot) -> None:
        """Note that the connection in this slot is authenticated."""
        if slot in self._held and not slot.authenticated:
            self._forget(slot)
            slot.authenticated = True

    def release(self, slot: ConnectionSlot) -> None:
        """Release a slot; it may have been taken away already."""
        if slot in self._held:
            self._held.remove(slot)
            if not slot.authenticated:
                self._forget(slot)

    def _end_oldest(self, address: str) -> None:
        oldest = next(iter(self._unauthenticated[address]))
        self.release(oldest)
        oldest.scope.cancel()

    def _forget(self, slot: ConnectionSlot) -> None:
        slots = self._unauthenticated[slot.address]
        del slots[slot]
        if not slots:
            del self._unauthenticated[slot.address]
        self._count -= 1


class ConnectionSlots:
    """The slots of one listener."""

    def __init__(self) -> None:
        self._remote = _SlotPool(MAX_PER_ADDRESS)
        self._local = _SlotPool(MAX_UNAUTHENTICATED)

    def acquire(self, address: str) -> ConnectionSlot | None:
        """Take a slot for a connection from this address; None if none is available."""
        if is_loopback(address):
            return self._local.acquire("loopback")
        return self._remote.acquire(host_of(address))

    def mark_authenticated(self, slot: ConnectionSlot) -> None:
        """Note that the connection in this slot is authenticated."""
        self._pool_of(slot).mark_authenticated(slot)

    def release(self, slot: ConnectionSlot) -> None:
        """Release a slot; it may have been taken away already."""
        self._pool_of(slot).release(slot)

    def _pool_of(self, slot: ConnectionSlot) -> _SlotPool:
        return self._local if slot.address == "loopback" else self._remote
