"""The HTTP sink of analytics events: posts batches to a server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx2
import msgspec
import trio

from trio_gw.telemetry.analytics import SinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.telemetry.events import Event

TIMEOUT = 10.0  # seconds for one request
# Limits for reading the body of a response, so that the connection can be used again.
MAX_ANSWER, LAST_WORDS = 1 << 16, 1.0  # bytes, seconds
_AGAIN = frozenset((408, 425, 429))


class HttpSink:
    """Posts batches as JSON arrays. `token` is sent as a bearer token."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        self._client = httpx2.AsyncClient(timeout=TIMEOUT, headers=headers)

    async def write(self, batch: Sequence[Event]) -> None:
        """Post a batch. A batch that the server did not accept may be sent again."""
        try:
            with trio.fail_after(TIMEOUT):
                status = await self._post(msgspec.json.encode(batch))
        except trio.TooSlowError:
            raise SinkError(f"no answer within {TIMEOUT:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SinkError(f"{type(error).__name__} {error}".strip()) from None
        if status >= 300:
            final = status < 500 and status not in _AGAIN
            raise SinkError(f"the server answered {status}", final=final)

    async def _post(self, body: bytes) -> int:
        async with self._client.stream("POST", self._url, content=body) as answer:
            size = 0
            # Cancelled, because only cancellation unwinds the generators below at once.
            with trio.move_on_after(LAST_WORDS) as scope, contextlib.suppress(httpx2.HTTPError):
                async for chunk in answer.aiter_raw():
                    size += len(chunk)
                    if size > MAX_ANSWER:
                        scope.cancel()
            return answer.status_code

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
