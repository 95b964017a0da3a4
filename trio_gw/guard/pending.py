"""Connections without a request yet: their maximum number, and which of them are evicted.

A client that connects and sends nothing costs a descriptor and memory until its timeout. So there
are caps on such connections, in total and per host (`config.addresses`). A new connection is never
refused: above a cap, and when the process runs short of descriptors or memory (`evict`), the oldest
connection of the host with the most connections is ended. A flood from one host evicts its own
connections.

All processes count together (`caps`); each ends connections of its own. Each connection from an
`exempt` address (a trusted proxy) counts as a separate host.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from trio_gw.config.addresses import host_of
from trio_gw.guard.caps import ConnectionCap, HeldConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from trio_gw.guard.caps import Caps

log = logging.getLogger("trio_gw.limits")

TELL = 10.0  # seconds between two lines of the log


class PendingEntry:
    """A connection without a request. `end` is called at most once and must not block or raise."""

    __slots__ = ("address", "end", "host", "over", "places")

    def __init__(self, address: str, where: Hashable, end: Callable[[], None]) -> None:
        self.address = address
        self.host = where
        self.end = end
        self.over = False
        self.places: tuple[HeldConnection, ...] = ()


class Pending:
    """The connections of this process without a request: at most `most`, 0 for any number.

    `per_host` is the maximum for one host. `evicted` counts evictions by reason.
    """

    def __init__(
        self,
        caps: Caps,
        most: int,
        per_host: int,
        exempt: Callable[[str], bool] = lambda address: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caps = caps
        self._most = most
        self._per_host = per_host
        self._exempt = exempt
        self._clock = clock
        self._count = 0
        self._serial = 0
        self._hosts: dict[Hashable, OrderedDict[PendingEntry, None]] = {}  # oldest connection first
        # The hosts by their number of connections; the host with this number for longest is first.
        self._crowds: dict[int, OrderedDict[Hashable, None]] = {}
        self._largest = 0
        self._leaving = 0  # `end` was called, `leave` not yet
        self.evicted: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()  # by address, since the last line of the log
        self._told_at = -TELL

    def __len__(self) -> int:
        return self._count

    def enter(self, address: str, end: Callable[[], None]) -> PendingEntry:
        """Count a connection from this address; above a cap another one, or this one, is ended."""
        where: Hashable = host_of(address) if ":" in address else address
        caps = [ConnectionCap("pending", "", self._most)] if self._most else []
        if self._exempt(address):
            self._serial += 1
            where = self._serial
        elif self._per_host:
            caps.append(ConnectionCap("pending address", str(where), self._per_host))
        entry = PendingEntry(address, where, end)
        entry.places, beyond = self._caps.add(caps)
        crowd = self._hosts.setdefault(where, OrderedDict())
        crowd[entry] = None
        self._count += 1
        self._resize(where, len(crowd) - 1, len(crowd))
        if beyond:
            own = beyond[-1].name != "pending"
            # If other processes use up the cap, the first connection of this one is accepted.
            if own and len(crowd) > 1:
                self._end(next(iter(crowd)), "address")
            elif not own and self._count > 1:
                self.evict("all")
        return entry

    def leave(self, entry: PendingEntry) -> None:
        """Stop counting a connection. Each connection that entered must leave, evicted or not."""
        if entry.over:
            self._leaving -= 1
        else:
            self._forget(entry)

    def _forget(self, entry: PendingEntry) -> None:
        entry.over = True
        self._caps.leave(entry.places)
        crowd = self._hosts[entry.host]
        del crowd[entry]
        self._count -= 1
        self._resize(entry.host, len(crowd) + 1, len(crowd))
        if not crowd:
            del self._hosts[entry.host]

    def evict(self, reason: str) -> bool:
        """End the oldest connection of the host with the most; return whether there was one."""
        if not self._count:
            return False
        crowded = next(iter(self._crowds[self._largest]))
        self._end(next(iter(self._hosts[crowded])), reason)
        return True

    def make_room(self, reason: str, count: int) -> bool:
        """End connections until this many are about to leave; return whether there were enough."""
        while self._leaving < count:
            if not self.evict(reason):
                return False
        return True

    def _end(self, entry: PendingEntry, reason: str) -> None:
        self._forget(entry)
        self._leaving += 1
        self.evicted[reason] += 1
        self._unreported[entry.address] += 1
        entry.end()
        self.tell()

    def tell(self) -> None:
        """Log evictions, at most one line per interval."""
        now = self._clock()
        if self._unreported and now - self._told_at >= TELL:
            ((address, most),) = self._unreported.most_common(1)
            log.warning(
                "ended %d connections without a request to make room, %d of them from %s",
                self._unreported.total(),
                most,
                address,
            )
            self._unreported.clear()
            self._told_at = now

    def _resize(self, where: Hashable, before: int, after: int) -> None:
        """Move a host to the group with its present number of connections."""
        if before:
            peers = self._crowds[before]
            del peers[where]
            if not peers:
                del self._crowds[before]
        if after:
            self._crowds.setdefault(after, OrderedDict())[where] = None
        if after > self._largest:
            self._largest = after
        elif before == self._largest and before not in self._crowds:
            self._largest = before - 1
