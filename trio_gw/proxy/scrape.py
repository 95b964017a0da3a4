"""The listener for `/metrics` alone: plain HTTP, one answer for each connection, within bounds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import Refusal
from trio_gw.proxy.refusals import not_found, only_get, too_slow
from trio_gw.relay.farewell import BROKEN, hang_up
from trio_gw.relay.turn import CHUNK
from trio_gw.wire.http import RequestReader, response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.relay.plain import PlainStream

DEADLINE = 10.0  # seconds for request and answer together
AT_ONCE = 16  # connections served at one time; others are closed


def scraped(
    exposition: Callable[[], bytes], content_type: str
) -> Callable[[PlainStream, str], Awaitable[None]]:
    """Make the handler of that listener."""
    kind = ((b"content-type", content_type.encode("ascii")),)
    now = 0

    async def serve(stream: PlainStream, _peer: str) -> None:
        nonlocal now
        now += 1
        try:
            if now <= AT_ONCE:
                with trio.move_on_after(DEADLINE), contextlib.suppress(*BROKEN):
                    await _answer(stream)
        finally:
            now -= 1
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
            if head.path != "/metrics":
                raise not_found()
            if head.method not in ("GET", "HEAD"):
                raise only_get()
            answer = response(200, kind, exposition(), head_only=head.method == "HEAD")
        except Refusal as refusal:
            answer = response(refusal.status, refusal.headers, refusal.body)
        await stream.send_all(answer)
        await hang_up(stream)

    return serve
