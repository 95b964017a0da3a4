"""Caps on open connections: in total, per API, per application, per address.

Every process counts its own connections by key, exactly. For the other processes it also counts
them in its column of shared memory, in two places that hashes of the key find. The connections of
another process are the smaller of its two counts: too many only if other keys share both places.
The supervisor clears the column of a process that ended.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trio_gw.supervision.shared_memory import Counters

PLACES = 1 << 16


class ConnectionCap(NamedTuple):
    """At most `most` connections with this key; `name` is for people."""

    name: str
    key: str
    most: int


class FullError(Exception):
    """The maximum number of connections is reached."""

    def __init__(self, cap: ConnectionCap) -> None:
        self.cap = cap
        super().__init__(f"{cap.most} connections per {cap.name}")


class HeldConnection(NamedTuple):
    """A connection that was counted for a key, and where."""

    key: tuple[str, str]
    places: tuple[int, int]


class Caps:
    """The open connections, as counted by the process with this `index`."""

    def __init__(self, counters: Counters, index: int = 0) -> None:
        """Count in `counters`, which have `PLACES` integers per process."""
        self._own = counters.column(index)
        self._others = [
            counters.column(other) for other in range(counters.processes) if other != index
        ]
        self._held: dict[tuple[str, str], int] = {}

    def take(self, caps: Sequence[ConnectionCap]) -> tuple[HeldConnection, ...]:
        """Count a connection; return what to pass to `leave` at its end. Raises `FullError`."""
        held = tuple(map(_held, caps))
        for cap, one in zip(caps, held, strict=True):
            if self._count(one) >= cap.most:
                raise FullError(cap)
        self._enter(held)
        return held

    def add(
        self, caps: Sequence[ConnectionCap]
    ) -> tuple[tuple[HeldConnection, ...], tuple[ConnectionCap, ...]]:
        """Count a connection in any case; return what to `leave`, and the exceeded caps."""
        held = tuple(map(_held, caps))
        self._enter(held)
        pairs = zip(caps, held, strict=True)
        return held, tuple(cap for cap, one in pairs if self._count(one) > cap.most)

    def counted(self, name: str) -> dict[str, int]:
        """Return how many connections are open, by key, of the caps with this name."""
        return {
            key: self._count(_held(ConnectionCap(kind, key, 0)))
            for kind, key in list(self._held)
            if kind == name
        }

    def leave(self, held: Iterable[HeldConnection]) -> None:
        """Stop counting a connection."""
        for key, places in held:
            if self._held[key] == 1:
                del self._held[key]
            else:
                self._held[key] -= 1
            for place in places:
                self._own[place] -= 1

    def _enter(self, held: Iterable[HeldConnection]) -> None:
        for key, places in held:
            self._held[key] = self._held.get(key, 0) + 1
            for place in places:
                self._own[place] += 1

    def _count(self, one: HeldConnection) -> int:
        first, second = one.places
        return self._held.get(one.key, 0) + sum(
            min(column[first], column[second]) for column in self._others
        )


def _held(cap: ConnectionCap) -> HeldConnection:
    key = cap.name, cap.key
    text = f"{cap.name}\0{cap.key}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=16).digest()
    first, second = digest[:8], digest[8:]
    half = PLACES // 2
    return HeldConnection(
        key, (int.from_bytes(first, "big") % half, half + int.from_bytes(second, "big") % half)
    )
