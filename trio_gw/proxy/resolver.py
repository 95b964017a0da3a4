"""Host names to addresses, remembered for a few seconds (spec: routing §8).

Installed as Trio's resolver, so every dial profits: without it each handshake would ask the
system in a thread of its own. While DNS is down or slow, the last addresses it gave keep being
used.
"""

from __future__ import annotations

import errno
import math
import socket
from typing import Any

import trio

Found = list[Any]  # as `socket.getaddrinfo` gives it
Question = tuple[Any, ...]

MAX_NAMES = 10_000  # far more than any table has backends
PATIENCE = 1.0  # seconds to wait for news of a name whose last addresses are known
# Threads that may ask at a time. One that waits for a dead DNS cannot be stopped, so they are
# counted apart from those that read files.
MAX_THREADS = 32


class Resolver(trio.abc.HostnameResolver):
    """Caches `getaddrinfo` for `refresh` seconds; 0 asks every time, in threads of its own."""

    def __init__(self, refresh: float) -> None:
        self._refresh = refresh
        self._known: dict[Question, tuple[float, Found]] = {}
        self._asking: dict[Question, trio.Event] = {}
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
        """Answer from memory while fresh; one lookup at a time per name, however many ask."""
        question: Question = (host, port, family, type, proto, flags)
        while (asking := self._asking.get(question)) is not None:
            await asking.wait()
        known = self._known.get(question)
        if known is not None and trio.current_time() < known[0]:
            await trio.lowlevel.checkpoint()
            return known[1]
        self._asking[question] = trio.Event()
        found: Found = [] if known is None else known[1]
        try:
            with trio.move_on_after(math.inf if known is None else PATIENCE):
                found = await trio.to_thread.run_sync(
                    _ask, question, abandon_on_cancel=True, limiter=self._threads
                )
        except RuntimeError as error:  # no thread can be started
            if known is None:
                raise OSError(errno.EAGAIN, "no thread for a name look-up") from error
        except OSError:
            if known is None:
                raise
        finally:
            self._asking.pop(question).set()
        if self._refresh:
            if len(self._known) >= MAX_NAMES:
                self._known.clear()
            self._known[question] = trio.current_time() + self._refresh, found
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:  # noqa: ANN401
        """Not used by the gateway."""
        raise NotImplementedError


def _ask(question: Question) -> Found:
    return socket.getaddrinfo(*question)
