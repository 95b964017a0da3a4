"""The `/metrics` listener: plain HTTP, one response per connection, within bounds."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Refusal
from trio_gw.proxy.refusals import misdirected, not_found, only_get, too_slow
from trio_gw.relay.lingering_close import BROKEN, lingering_close
from trio_gw.relay.sizes import CHUNK
from trio_gw.wire.http import RequestReader, response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.guard.authority import AuthorityNames
    from trio_gw.relay.plain import PlainStream

DEADLINE = 10.0  # seconds for request and response together
MAX_CONNECTIONS = 16  # for one more, the oldest is closed


def metrics_handler(
    exposition: Callable[[], Awaitable[bytes]],
    content_type: str,
    names: AuthorityNames | None = None,
) -> Callable[[PlainStream, str], Awaitable[None]]:
    """Create the handler for that listener. `names` are the allowed host names; None allows any."""
    kind = (
        (b"content-type", content_type.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )
    served: deque[trio.CancelScope] = deque()

    async def serve(stream: PlainStream, _peer: str) -> None:
        # A client that sends nothing, or does not read, must not block the others.
        if len(served) >= MAX_CONNECTIONS:
            served.popleft().cancel()
        try:
            with trio.move_on_after(DEADLINE) as scope, contextlib.suppress(*BROKEN):
                served.append(scope)
                await _answer(stream)
        finally:
            with contextlib.suppress(ValueError):
                served.remove(scope)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _answer(stream: PlainStream) -> None:
        reader = RequestReader()
        head = None
        try:
            with trio.move_on_after(DEADLINE / 2):
                while head is None:
                    if not (data := await stream.receive_some(CHUNK)):
                        return
                    head = reader.feed(bytes(data))
            if head is None:
                raise too_slow("head", DEADLINE / 2)
            # Browsers always send Host; HTTP/1.0 clients may omit it.
            named = head.authority.decode("latin-1")
            if names is not None and not names.has(named) and (named or not head.old):
                raise misdirected()
            if head.path != "/metrics":
                raise not_found()
            if head.method not in ("GET", "HEAD"):
                raise only_get()
            answer = response(200, kind, await exposition(), head_only=head.method == "HEAD")
        except Refusal as refusal:
            answer = response(refusal.status, refusal.headers, refusal.body)
        await stream.send_all(answer)
        await lingering_close(stream)

    return serve
