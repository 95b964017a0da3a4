"""Failed log-ins by address: after several failures an address must wait, twice as long each time.

Used by `accounts`. No I/O and no clock. The table is bounded: when it is full, the address with
the least recent failure is removed.
"""

from __future__ import annotations

from collections import OrderedDict

from trio_gw.config.addresses import host_of

FREE = 5  # failures without a wait
LONGEST = 300.0  # maximum wait in seconds
FORGOTTEN = 3600.0  # seconds without a failure after which an address is forgotten
MAX_ADDRESSES = 4096


class Attempts:
    """Counts failures per address; `now` is in seconds of a monotonic clock."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self._max = max_addresses
        # By address: failures, when the next attempt may be made, when the last one failed.
        self._failed: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        self._under_way: dict[str, int] = {}  # bounded by the number of simultaneous attempts

    def __len__(self) -> int:
        return len(self._failed) + len(self._under_way)

    def begin(self, address: str, now: float) -> float:
        """Request an attempt; return 0 if it is allowed, else the seconds to wait first.

        An allowed attempt counts as a failure until it has ended, so that simultaneous attempts do
        not avoid the wait. Every allowed attempt must be ended with `end`.
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

        A success does not reset the failures: otherwise a user could guess the password of another
        one without limit by logging in in between.
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
        """Note that an attempt has ended, with any result."""
        key = host_of(address)
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]


def _penalty(failures: int) -> float:
    """Return the seconds to wait after so many failures: 1, 2, 4, 8, …"""
    return min(LONGEST, 2.0 ** min(failures - FREE, 16))
