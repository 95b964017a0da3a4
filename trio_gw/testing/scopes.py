"""A nursery for the body of an `async with`: what the body raises comes out as it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def unwrapped() -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose tasks are cancelled at the end of the body.

    An exception of the body is not put into an exception group, so `pytest.raises` and failed
    assertions look as without a nursery. Exceptions of the tasks are put into one.
    """
    failed: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:
            failed = error
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
