"""Changes of the index of deployments: one at a time, on disk, and live when the call returns.

A change is made in the context of `begin`, which holds a lock that all processes respect, and
takes effect with `commit`. spec: adapter-rest §4, portal §2.8.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_gw.feed.catalog import Catalog
    from trio_gw.feed.deployment_index import DeploymentIndex
    from trio_gw.feed.deployment_source import DeploymentSource

log = logging.getLogger("trio_gw.deploy")

T = TypeVar("T")

CHANGE_TIMEOUT = 4.0  # seconds to wait for another change; apictl gives up after 10 in total


class IndexChanges:
    """Changes the index. `converge` returns when all workers serve the same table."""

    def __init__(
        self,
        deployments: DeploymentSource,
        catalog: Catalog,
        converge: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.deployments = deployments
        self.store = deployments.store
        self._catalog = catalog
        self._converge = converge
        self._changes = trio.Lock()
        self._limiter = trio.CapacityLimiter(2)  # one deployment and one undeployment at a time

    @property
    def index(self) -> DeploymentIndex:
        """The current index, as this process last read it."""
        return self.deployments.index

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        """Hold the lock for changing the index, after reading its current state.

        Raises OSError or `UnusableError` if that fails.
        """
        async with acquired(self._changes, CHANGE_TIMEOUT):
            lock = self.store.locked(CHANGE_TIMEOUT)
            await self.in_thread(lock.__enter__)
            try:
                await self.deployments.refresh()
                if self.deployments.broken:
                    raise UnusableError(self.deployments.broken)
                await self._catalog.applied()
                yield
            finally:
                lock.__exit__(None, None, None)

    async def commit(self, index: DeploymentIndex, file: str = "") -> bool:
        """Replace the index, and wait until it is live in all workers.

        `file` is a zip that only the new index lists. Returns False if other workers are slow: they
        follow later.
        """
        before = self.index
        index = index.pruned(self.deployments.hides)
        left = {entry.file for entry in index.entries}
        gone = [entry for entry in before.entries if entry.file not in left]
        try:
            await self.in_thread(partial(self.store.commit, index, gone))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.in_thread(partial(self.store.discard, [file] if file else []))
            raise
        await self.deployments.refresh()
        await self._catalog.applied()
        converged = True
        if self._converge is not None:
            with trio.move_on_after(CHANGE_TIMEOUT) as waited:
                await self._converge()
            if waited.cancelled_caught:
                converged = False
                log.warning("deployment change %d is not live in all workers yet", index.serial)
        if gone:
            await self.in_thread(partial(self.store.discard, [entry.file for entry in gone]))
        return converged

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what blocks."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


@contextlib.asynccontextmanager
async def acquired(lock: trio.Lock, timeout: float) -> AsyncIterator[None]:
    """Hold a lock. Raises TimeoutError if another task holds it for longer than `timeout`."""
    with trio.move_on_after(timeout) as waited:
        await lock.acquire()
    if waited.cancelled_caught:
        raise TimeoutError
    try:
        yield
    finally:
        lock.release()
