"""Things that arrive one after the other: kept for good, and taken one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class EndOfArrivalsError(Exception):
    """Nothing more will arrive."""


class Arrivals(Generic[T]):
    """An unbounded queue that also keeps what was taken from it."""

    def __init__(self, what: str, timeout: float) -> None:
        """`what` names the things in error texts; `timeout` bounds each wait, in seconds."""
        self.ended = False
        self._what = what
        self._timeout = timeout
        self._items: list[T] = []
        self._taken = 0
        self._changed = trio.Event()

    def all(self) -> tuple[T, ...]:
        """Return everything that has arrived, taken or not."""
        return tuple(self._items)

    def put(self, item: T) -> None:
        """Add one."""
        self._items.append(item)
        self._notify()

    def end(self) -> None:
        """Nothing more will arrive."""
        self.ended = True
        self._notify()

    async def take(self) -> T:
        """Return the first one that was not taken yet.

        Raises `EndOfArrivalsError`, and `trio.TooSlowError` when the time is over.
        """
        await self._until(lambda: self._taken < len(self._items) or self.ended, self._what)
        if self._taken == len(self._items):
            raise EndOfArrivalsError
        self._taken += 1
        return self._items[self._taken - 1]

    async def wait_ended(self) -> None:
        """Wait for the end. Raises `trio.TooSlowError` when the time is over."""
        await self._until(lambda: self.ended, f"end of: {self._what}")

    async def _until(self, happened: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(self._timeout):
            while not happened():
                await self._changed.wait()
            return
        raise trio.TooSlowError(f"not within {self._timeout:g} s: {what}")

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
