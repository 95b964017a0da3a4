"""The fixtures for pytest-trio; registered by `trio_gw.pytest_plugin`.

What a fixture needs is imported when it is used.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from pytest_trio import trio_fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_gw.testing import RecordingBackend, ServedGateway


@trio_fixture  # type: ignore[misc, untyped-decorator, unused-ignore]
async def trio_backend() -> AsyncIterator[RecordingBackend]:
    """A backend that sends messages back."""
    from trio_gw.testing import serve_backend

    stack = AsyncExitStack()
    yield await stack.enter_async_context(serve_backend())
    await stack.aclose()  # pytest-trio gets here whatever happens in the test


@trio_fixture  # type: ignore[misc, untyped-decorator, unused-ignore]
async def trio_gateway(
    gateway_options: dict[str, Any], trio_backend: RecordingBackend
) -> AsyncIterator[ServedGateway]:
    """A gateway; `trio_backend` receives what it relays."""
    from trio_gw.testing import serve_gateway

    stack = AsyncExitStack()
    options = {"backend": trio_backend, **gateway_options}
    yield await stack.enter_async_context(serve_gateway(**options))
    await stack.aclose()
