"""How many connections the admin listener holds, and whose goes when there are too many.

Nobody is refused a connection because others hold theirs open: for a new one the oldest of the
address that has most ends, of those on which nobody has shown credentials yet. Connections whose
user is known are not ended for others, and have places that the others cannot take; loopback has
places of its own.
"""

from __future__ import annotations

import trio

from trio_gw.config.addresses import is_loopback
from trio_gw.guard.hosts import host

MOST = 256  # connections; as many again from loopback
UNKNOWN = 192  # of these, on which nobody has shown credentials
PER_ADDRESS = 64  # of those, from one address that is not loopback


class Place:
    """One connection's place. `scope` is cancelled when another one needs it."""

    __slots__ = ("address", "known", "scope")

    def __init__(self, address: str) -> None:
        self.address = address
        self.known = False
        self.scope = trio.CancelScope()


class _Room:
    """Places that are counted together."""

    def __init__(self, per_address: int) -> None:
        self._per_address = per_address
        self._held: set[Place] = set()
        self._unknown: dict[str, dict[Place, None]] = {}  # by address, the oldest first
        self._count = 0  # of the unknown

    def enter(self, address: str) -> Place | None:
        """Take a place; None if all are held by those who are known."""
        if len(self._unknown.get(address, ())) >= self._per_address:
            self._end_oldest(address)
        elif self._count >= UNKNOWN or len(self._held) >= MOST:
            if not self._unknown:
                return None
            self._end_oldest(max(self._unknown, key=lambda one: len(self._unknown[one])))
        place = Place(address)
        self._held.add(place)
        self._unknown.setdefault(address, {})[place] = None
        self._count += 1
        return place

    def know(self, place: Place) -> None:
        """Note that whoever holds this place has shown good credentials."""
        if place in self._held and not place.known:
            self._forget(place)
            place.known = True

    def leave(self, place: Place) -> None:
        """Give a place back; it may have been taken away before."""
        if place in self._held:
            self._held.remove(place)
            if not place.known:
                self._forget(place)

    def _end_oldest(self, address: str) -> None:
        oldest = next(iter(self._unknown[address]))
        self.leave(oldest)
        oldest.scope.cancel()

    def _forget(self, place: Place) -> None:
        places = self._unknown[place.address]
        del places[place]
        if not places:
            del self._unknown[place.address]
        self._count -= 1


class Places:
    """The places of one listener."""

    def __init__(self) -> None:
        self._remote = _Room(PER_ADDRESS)
        self._local = _Room(UNKNOWN)

    def enter(self, address: str) -> Place | None:
        """Take a place for a connection from this address; None if there is none to be had."""
        if is_loopback(address):
            return self._local.enter("loopback")
        return self._remote.enter(host(address))

    def know(self, place: Place) -> None:
        """Note that whoever holds this place has shown good credentials."""
        self._room(place).know(place)

    def leave(self, place: Place) -> None:
        """Give a place back; it may have been taken away before."""
        self._room(place).leave(place)

    def _room(self, place: Place) -> _Room:
        return self._local if place.address == "loopback" else self._remote
