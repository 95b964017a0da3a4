"""Caps on open connections: in total, per API, per application, per address.

Every process counts its own connections in its own column and reads all columns. A hash finds the
place of a key; keys with the same place share a count, which can only be too high. The supervisor
clears the column of a process that ended.
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


class Caps:
    """The open connections, as counted by the process with this `index`."""

    def __init__(self, counters: Counters, index: int = 0) -> None:
        """Count in `counters`, which have `PLACES` integers per process."""
        self._counters = counters
        self._own = self._counters.column(index)

    def take(self, caps: Sequence[ConnectionCap]) -> tuple[int, ...]:
        """Count a connection; return what to pass to `leave` at its end. Raises `FullError`."""
        places = tuple(map(_place, caps))
        for cap, place in zip(caps, places, strict=True):
            if sum(self._counters.row(place)) >= cap.most:
                raise FullError(cap)
        for place in places:
            self._own[place] += 1
        return places

    def add(
        self, caps: Sequence[ConnectionCap]
    ) -> tuple[tuple[int, ...], tuple[ConnectionCap, ...]]:
        """Count a connection in any case; return what to `leave`, and the exceeded caps."""
        places = tuple(map(_place, caps))
        for place in places:
            self._own[place] += 1
        return places, tuple(
            cap
            for cap, place in zip(caps, places, strict=True)
            if sum(self._counters.row(place)) > cap.most
        )

    def leave(self, places: Iterable[int]) -> None:
        """Stop counting a connection."""
        for place in places:
            self._own[place] -= 1


def _place(cap: ConnectionCap) -> int:
    text = f"{cap.name}\0{cap.key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % PLACES
