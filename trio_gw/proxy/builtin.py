"""The gateway's own endpoints on the traffic ports: `/health`, `/ready`, `/testkey`.

They answer any method on their exact path (spec: routing §12), and only requests that are not
WebSocket upgrades, so an API whose topics cover everything does not hide them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import trio

from trio_gw.proxy.refusals import not_found
from trio_gw.wire.http import bad_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.guard.testkey import TestKeys
    from trio_gw.wire.http import RequestHead

TEXT = ((b"content-type", b"text/plain"),)
NO_STORE = (b"cache-control", b"no-store")

Answer = tuple[int, tuple[tuple[bytes, bytes], ...], bytes]


class Builtin:
    """Answers the system paths. `worker` moves `state` on."""

    def __init__(self, testkeys: TestKeys | None, clock: Callable[[], float]) -> None:
        self.state: Literal["starting", "ready", "draining"] = "starting"
        self._testkeys = testkeys
        self._clock = clock

    @property
    def starting(self) -> bool:
        """Tell whether projects are still being loaded."""
        return self.state == "starting"

    def serves(self, path: str) -> bool:
        """Tell whether a path is one of the gateway's own."""
        return path in ("/health", "/ready") or (path == "/testkey" and bool(self._testkeys))

    async def answer(
        self, head: RequestHead, body: Callable[[], Awaitable[bytes]], client: str
    ) -> Answer:
        """Answer a request to one of them; `body` reads its body, `client` is who asks.

        Raises `Refusal` when the body is malformed, when there were too many requests, or 404
        while the path does not exist yet.
        """
        if head.path == "/health":
            return 200, TEXT, b'{"status": "healthy"}'
        if head.path == "/ready":
            if self.state == "ready":
                return 200, TEXT, b'{"status": "ready"}'
            if self.state == "draining":
                return 503, TEXT, b'{"status": "draining"}'
            raise not_found()
        assert self._testkeys is not None
        credentials = head.values(b"authorization")
        if len(credentials) > 1:
            raise bad_request("More than one Authorization header")
        status, text = await self._testkeys.answer(
            credentials[0] if credentials else None,
            await body(),
            self._clock(),
            address=client,
            at=trio.current_time(),
        )
        return status, (*TEXT, NO_STORE), text.encode()
