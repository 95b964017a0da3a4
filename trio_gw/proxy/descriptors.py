"""File descriptors: raises the limit, and reserves a part of them for other uses than clients.

If clients used every descriptor of a process, they could not even be denied: the file with the deny
conditions could not be opened. The kernel assigns the lowest free number. So the number of a new
descriptor shows, without any counting, that at least that many are in use, and each use has its own
ceiling (`Ceilings`): above the ceiling of clients and backends there is a reserve for the admin and
metrics listeners, and above that one for files, key sets, git and name lookups.
"""

from __future__ import annotations

import errno
import logging
import resource
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("trio_gw")

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
MOST = 1 << 20  # do not raise beyond: some programs that git starts close every number
LEAST_SHARE, LARGEST_SHARE = 8, 256  # descriptors in one reserve
FEW = 512  # warn about a lower limit


class Ceilings(NamedTuple):
    """The highest descriptor number for each use; see `ceilings_for`."""

    clients: int  # from here on, each new client closes a pending one
    backends: int  # ... each new backend connection does; without a pending one it fails
    traffic: int  # maximum for clients and backends
    operators: int  # the admin and metrics listeners


def ceilings_for(limit: int) -> Ceilings:
    """Divide the descriptors that a process may open."""
    share = max(LEAST_SHARE, min(LARGEST_SHARE, limit // 16))
    return Ceilings(*(limit - share * part for part in (4, 3, 2, 1)))


def current_ceilings() -> Ceilings:
    """Divide the descriptors that this process may open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ceilings_for(MOST if limit == resource.RLIM_INFINITY else limit)


def raise_limit() -> None:
    """Raise the soft limit to the hard limit, for this process and its children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            log.warning("cannot raise the limit of open files above %d: %s", soft, error)
        else:
            log.info("raised the limit of open files from %d to %d", soft, wanted)
            soft = wanted
    if 0 <= soft < FEW:
        log.warning(
            "the limit of open files is %d: about %d connections can be relayed;"
            " raise the hard limit (LimitNOFILE, ulimit -Hn)",
            soft,
            max(0, ceilings_for(soft).clients // 2),
        )


def is_exhausted(error: OSError) -> bool:
    """Whether a connection failed because this process lacks descriptors or memory.

    Trio keeps the reasons why no address could be connected to in an exception group.
    """
    causes = (error, error.__cause__, *getattr(error.__cause__, "exceptions", ()))
    return any(isinstance(cause, OSError) and cause.errno in EXHAUSTED for cause in causes)


class DescriptorBudget:
    """Decides whether a new descriptor of one use may be kept.

    A descriptor below `ceiling` is always admitted, without a call. `reclaim(count)` closes that
    many other descriptors, including those that are already closing, and returns whether it could.
    """

    def __init__(
        self,
        ceiling: int,
        last: int,
        most: int,
        reclaim: Callable[[int], bool] = lambda count: False,
        count: Counter[str] | None = None,
    ) -> None:
        """Reclaim from `ceiling` on. If that fails, admit up to `last`, otherwise up to `most`.

        Refused descriptors are counted as `closed`.
        """
        self.ceiling = self._first = ceiling
        self._closed = False
        self._last = last
        self._most = most
        self.reclaim = reclaim
        self._count: Counter[str] = Counter() if count is None else count

    def close(self, close: bool) -> None:
        """Admit nothing, or admit again."""
        self._closed = close
        self.ceiling = 0 if close else self._first

    def admits(self, number: int) -> bool:
        """Whether a new descriptor with this number may be kept; reclaims others if needed."""
        if self._closed:
            self._count["closed"] += 1
            return False
        if number < self.ceiling:
            return True
        # All numbers below are in use, so this reduces the use to the ceiling again. To close one
        # for each new one is not enough: the freed number goes to the next one without a check.
        made = self.reclaim(number + 1 - self.ceiling)
        if number < (self._most if made else self._last):
            return True
        self._count["closed"] += 1
        return False


UNLIMITED = DescriptorBudget(MOST, MOST, MOST)
