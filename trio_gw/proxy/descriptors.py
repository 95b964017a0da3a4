"""File descriptors: as many as the system allows, and a part of them kept for other than clients.

Who has taken every descriptor of a process could not be denied any more: the file that says so
could not be opened. The kernel gives out the lowest number that is free. So the number of a new
descriptor tells, without any counting, that at least so many are in use, and each use has a
ceiling of its own (`Ceilings`): above what clients and backends may have there is room for the
admin and metrics listeners, and above that for files, key sets, git and name look-ups.
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
MOST = 1 << 20  # what is raised to at most: some programs that git starts try every number
LEAST_SHARE, LARGEST_SHARE = 8, 256  # descriptors that one of the reserves has
FEW = 512  # a limit below this one is worth a warning


class Ceilings(NamedTuple):
    """Up to which number each use may go; see `of`."""

    clients: int  # from here on, a client that says nothing has to go for each new one
    backends: int  # ... for each new backend connection; none is made where no client can go
    traffic: int  # neither clients nor backends
    operators: int  # the admin and metrics listeners


def of(limit: int) -> Ceilings:
    """Divide the descriptors that a process may have."""
    share = max(LEAST_SHARE, min(LARGEST_SHARE, limit // 16))
    return Ceilings(*(limit - share * part for part in (4, 3, 2, 1)))


def current() -> Ceilings:
    """Divide those that this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return of(MOST if limit == resource.RLIM_INFINITY else limit)


def raise_limit() -> None:
    """Raise the soft limit to the hard one, for this process and those that it starts."""
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
            max(0, of(soft).clients // 2),
        )


def is_exhausted(error: OSError) -> bool:
    """Tell whether a connection failed for want of descriptors or memory of our own.

    Why no address could be connected to, Trio keeps in a group of its own.
    """
    causes = (error, error.__cause__, *getattr(error.__cause__, "exceptions", ()))
    return any(isinstance(cause, OSError) and cause.errno in EXHAUSTED for cause in causes)


class DescriptorBudget:
    """Whether there is room for a new descriptor of one use.

    One below `ceiling` needs not be asked for. `make(count)` ends so many other uses, counting
    those that are about to end, and tells whether it could.
    """

    def __init__(
        self,
        ceiling: int,
        last: int,
        most: int,
        reclaim: Callable[[int], bool] = lambda count: False,
        count: Counter[str] | None = None,
    ) -> None:
        """Begin to make room at `ceiling`; without any, go up to `last`, else up to `most`.

        Those that find none are counted as `closed`.
        """
        self.ceiling = self._first = ceiling
        self._closed = False
        self._last = last
        self._most = most
        self.reclaim = reclaim
        self._count: Counter[str] = Counter() if count is None else count

    def close(self, close: bool) -> None:
        """Admit nothing any more, or again."""
        self._closed = close
        self.ceiling = 0 if close else self._first

    def admits(self, number: int) -> bool:
        """Tell whether a new descriptor with this number may stay; make room for it if needed."""
        if self._closed:
            self._count["closed"] += 1
            return False
        if number < self.ceiling:
            return True
        # All below are in use, so this brings the use down to the ceiling again. To end one for
        # each new one would not do: what that frees goes to the next one unseen.
        made = self.reclaim(number + 1 - self.ceiling)
        if number < (self._most if made else self._last):
            return True
        self._count["closed"] += 1
        return False


UNLIMITED = DescriptorBudget(MOST, MOST, MOST)
