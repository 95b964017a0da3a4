"""Resolves host names to addresses, with a cache of a few seconds (spec: routing §8).

It is installed as Trio's resolver, so every connect uses it. Without it each handshake would call
the system's resolver in a thread. While DNS is down or slow, the last known addresses are used.
"""

from __future__ import annotations

import errno
import math
import socket
from typing import Any

import trio

Found = list[Any]  # as returned by `socket.getaddrinfo`
LookupKey = tuple[Any, ...]

MAX_NAMES = 10_000  # far more than any table has backends
REFRESH_WAIT = 1.0  # seconds to wait for a lookup if earlier addresses are known
# Concurrent lookup threads. A thread that waits for an unreachable DNS server cannot be stopped, so
# these threads are limited separately from the threads that read files.
MAX_THREADS = 32


class Resolver(trio.abc.HostnameResolver):
    """Caches `getaddrinfo` for `refresh` seconds; with 0 every call does a lookup in a thread."""

    def __init__(self, refresh: float) -> None:
        self._refresh = refresh
        self._known: dict[LookupKey, tuple[float, Found]] = {}
        self._lookups: dict[LookupKey, trio.Event] = {}
        self._threads = trio.CapacityLimiter(MAX_THREADS)

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name in the interface
        proto: int = 0,
        flags: int = 0,
    ) -> Found:
        """Answer from the cache while it is fresh; concurrent calls share one lookup."""
        key: LookupKey = (host, port, family, type, proto, flags)
        while (lookup := self._lookups.get(key)) is not None:
            await lookup.wait()
        known = self._known.get(key)
        if known is not None and trio.current_time() < known[0]:
            await trio.lowlevel.checkpoint()
            return known[1]
        self._lookups[key] = trio.Event()
        found: Found = [] if known is None else known[1]
        try:
            with trio.move_on_after(math.inf if known is None else REFRESH_WAIT):
                found = await trio.to_thread.run_sync(
                    _look_up, key, abandon_on_cancel=True, limiter=self._threads
                )
        except RuntimeError as error:  # no thread can be started
            if known is None:
                raise OSError(errno.EAGAIN, "no thread for a name look-up") from error
        except OSError:
            if known is None:
                raise
        finally:
            self._lookups.pop(key).set()
        if self._refresh:
            if len(self._known) >= MAX_NAMES:
                self._known.clear()
            self._known[key] = trio.current_time() + self._refresh, found
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:  # noqa: ANN401
        """Not used by the gateway."""
        raise NotImplementedError


def _look_up(key: LookupKey) -> Found:
    return socket.getaddrinfo(*key)
