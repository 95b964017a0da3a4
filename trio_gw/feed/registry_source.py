"""Follows the registry of applications, and changes it. Each worker has one.

Every worker checks the file four times a second, as the index of deployed APIs is followed, so the
file carries a change to all workers. `fresh` checks at once. A file that is not usable changes
nothing: the last good registry stays in use, and `problems` tells why.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from trio_gw.errors import UnusableError
from trio_gw.feed.registry_store import EMPTY, StoredRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.registry import Registry
    from trio_gw.errors import Problem
    from trio_gw.feed.registry_store import RegistryStore

T = TypeVar("T")
Prepared = TypeVar("Prepared")

log = logging.getLogger("trio_gw.applications")

POLL = 0.25  # seconds between two checks of the file
RETRY = 5.0  # seconds until an unusable file is read again though it has not changed
FRESH_WITHIN = 2.0  # seconds that a check may take before the last state is used


class RegistrySource:
    """The registry of one process.

    `prepare` gets a registry and the next one in a worker thread, `use` puts its result into
    effect.
    """

    def __init__(
        self,
        store: RegistryStore,
        prepare: Callable[[Registry, Registry], Prepared],
        use: Callable[[Prepared], None],
    ) -> None:
        self.store = store
        self.problems: tuple[Problem, ...] = ()
        self._work = _Effect(prepare, use)
        self._stored: StoredRegistry = EMPTY
        self._failed: object = None  # the version of the file that could not be used
        self._retry_at = 0.0
        self._lock = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)

    @property
    def registry(self) -> Registry:
        """The current registry."""
        return self._stored.read.registry

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the file until cancelled. Started when it has been read once."""
        await self.refresh()
        task_status.started()
        while True:
            await trio.sleep(POLL)
            await self.refresh()

    async def fresh(self) -> Registry:
        """Return the registry as it is on disk now; the last known if that takes too long."""
        with trio.move_on_after(FRESH_WITHIN):
            await self.refresh()
        return self.registry

    async def refresh(self) -> None:
        """Read the file if it has changed."""
        async with self._lock:
            try:
                version = await self._in_thread(self.store.version)
                if version == self._stored.version:
                    self._usable()
                    return
                if version == self._failed and trio.current_time() < self._retry_at:
                    return
                read = partial(self.store.read, self._stored)
                used = await self._in_thread(partial(self._prepare, read))
            except UnusableError as error:
                self._unusable(error, version)
            except OSError as error:
                log.warning("%s cannot be read: %s", self.store.label, error.strerror or error)
            else:
                self._put_into_use(*used)

    async def change(self, make: Callable[[Registry], Registry]) -> Registry:
        """Change the registry on disk and here; return the new one.

        Raises what `make` raises, and what `RegistryStore.change` raises.
        """
        async with self._lock:
            work = partial(self.store.change, make, self._stored)
            # A change that has begun is finished: nobody would know its outcome otherwise.
            with trio.CancelScope(shield=True):
                used = await self._in_thread(partial(self._prepare, work))
            self._put_into_use(*used)
            return self.registry

    def _prepare(
        self, read: Callable[[], StoredRegistry]
    ) -> tuple[StoredRegistry, Callable[[], None]]:
        """Read the file and prepare its effect; in the worker thread."""
        before = self._stored.read.registry
        stored = read()
        after = stored.read.registry
        return stored, self._work.prepared(before, after)

    def _put_into_use(self, stored: StoredRegistry, use: Callable[[], None]) -> None:
        self._stored = stored
        self._usable()
        use()

    def _usable(self) -> None:
        if self.problems:
            log.info("%s: usable again", self.store.label)
        self.problems, self._failed = (), None

    def _unusable(self, error: UnusableError, version: object) -> None:
        self._failed, self._retry_at = version, trio.current_time() + RETRY
        if error.problems != self.problems:
            self.problems = error.problems
            for problem in error.problems:
                log.error("%s", problem)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


class _Effect(Generic[Prepared]):
    """What a change of the registry does."""

    def __init__(
        self, prepare: Callable[[Registry, Registry], Prepared], use: Callable[[Prepared], None]
    ) -> None:
        self._prepare = prepare
        self._use = use

    def prepared(self, before: Registry, after: Registry) -> Callable[[], None]:
        """Return what puts a change into effect."""
        if before is after:
            return lambda: None
        return partial(self._use, self._prepare(before, after))
