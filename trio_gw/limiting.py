"""What the relay and the rate limiter know of each other: the answer to a message, and protocols.

`guard.limiter` implements them, `relay` uses them; neither imports the other.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class LimitReached(NamedTuple):
    """A message may not pass: until when (epoch seconds), what happens to it, and why.

    If it `lasts`, no other message passes until then either, as long as no other session asks.
    """

    until: float
    action: str
    reason: str
    lasts: bool = False


class LeaseHolder(Protocol):
    """May let messages and octets pass without a question, as many as it acquired.

    A lease ends at `until` (epoch seconds), or before that with `release_lease`, which returns how
    many messages and octets passed.
    """

    def acquire_lease(self, messages: int, octets: int, until: float) -> None: ...
    def release_lease(self) -> tuple[int, int]: ...


class MessageLimiter(Protocol):
    """Decides about single messages of one direction.

    `take` counts a message that it lets pass. `add` counts a further frame of it. A message that
    had to wait is asked about `again`. `drop` reports messages that were dropped without a question
    because the last answer lasts.
    """

    def take(self, octets: int, now: float, again: bool = False) -> LimitReached | None: ...
    def add(self, octets: int, now: float) -> None: ...
    def drop(self, messages: int) -> None: ...


class ChunkLimiter(MessageLimiter, Protocol):
    """Decides about whole chunks, too.

    `fits` lets all messages and octets pass and counts them, or does nothing. `count` counts what
    has passed. `lease` grants a lease if much of the limit is left; it ends at `until`, with a
    window. `end_lease` takes the amounts that were used; `reclaim_lease` asks the holder for them.
    """

    @property
    def until(self) -> float: ...
    def fits(self, messages: int, octets: int, now: float) -> bool: ...
    def count(self, messages: int, octets: int, now: float) -> None: ...
    def lease(self, holder: LeaseHolder, now: float) -> bool: ...
    def end_lease(self, messages: int, octets: int) -> None: ...
    def reclaim_lease(self) -> None: ...
