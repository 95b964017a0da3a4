"""Failed log-ins by address: who has failed often has to wait, twice as long each time.

Used by `testkey`. No I/O and no clock. The table is bounded: when it is full, the address that
has failed least recently is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict

from trio_gw.config.addresses import host_of

FREE = 5  # failures before anyone has to wait
LONGEST = 300.0  # seconds to wait at most
FORGOTTEN = 3600.0  # seconds without a failure after which an address starts anew
MAX_ADDRESSES = 4096


class Attempts:
    """Counts failures per address; `now` is in seconds of a clock that only goes forward."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self._max = max_addresses
        # By address: failures, when the next attempt may be made, when the last one failed.
        self._failed: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        self._under_way: dict[str, int] = {}  # as bounded as the caller's attempts at once

    def __len__(self) -> int:
        return len(self._failed) + len(self._under_way)

    def begin(self, address: str, now: float) -> float:
        """Ask for an attempt; returns 0 if it may be made, else the seconds to wait first.

        An attempt that may be made counts as a failure until it has ended, so that many at once
        get nobody around the wait. Every one that may be made has to be ended with `end`.
        """
        key = host_of(address)
        failures, until, last = self._failed.get(key, (0, 0.0, 0.0))
        if failures and now - last >= FORGOTTEN:
            del self._failed[key]
            failures, until = 0, 0.0
        if until > now:
            return until - now
        under_way = self._under_way.get(key, 0)
        if under_way and failures + under_way >= FREE:
            return 1.0
        self._under_way[key] = under_way + 1
        return 0.0

    def failed(self, address: str, now: float) -> None:
        """Note that an attempt failed.

        A success changes nothing: the failures stay counted, or a user of the gateway could
        guess at another's password without end by logging in in between.
        """
        key = host_of(address)
        failures, until, _ = self._failed.pop(key, (0, 0.0, 0.0))
        failures += 1
        if failures >= FREE:
            until = max(until, now + _penalty(failures))
        if len(self._failed) >= self._max:
            self._failed.popitem(last=False)
        self._failed[key] = failures, until, now

    def end(self, address: str) -> None:
        """Note that an attempt is over, whatever came of it."""
        key = host_of(address)
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]


def _penalty(failures: int) -> float:
    """Return the seconds to wait after so many failures: 1, 2, 4, 8, …"""
    return min(LONGEST, 2.0 ** min(failures - FREE, 16))
