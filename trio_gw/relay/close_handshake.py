"""How most connections end: one side's Close has passed, and the other's is all that is missing.

Between plain sockets that takes two waits and no task. Whatever else happens (a side that
vanishes, a violation, an end from the gateway) is for `pump`, whose word on endings is the only
one: what is done here is what it would do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import trio

from trio_gw.errors import Ending, Side
from trio_gw.relay.lane import FRAMES_PER_TURN
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.plain import PlainStream
from trio_gw.relay.sizes import CHUNK
from trio_gw.relay.waits import Woken

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.waits import Waits

Streams = tuple[PlainStream, PlainStream]
Rest = tuple[Ending | None, tuple[bytes, bytes], float]
"""For `pump`: how it ended, what client and backend still have to be sent, seconds left for it."""

SIDES = (Side.CLIENT, Side.BACKEND)


def are_plain(streams: tuple[trio.abc.Stream, trio.abc.Stream]) -> TypeGuard[Streams]:
    """Tell whether both are sockets without TLS."""
    return isinstance(streams[0], PlainStream) and isinstance(streams[1], PlainStream)


async def finish(
    streams: Streams, lanes: tuple[Lane, Lane], waits: Waits, close_timeout: float
) -> Ending | Rest:
    """End a connection of which nothing is under way; client and backend in this order.

    When it is ended both streams are closed, as they are when this raises.
    """
    first = _closed_first(lanes)
    if first is None:
        return None, (b"", b""), close_timeout
    close = lanes[first].close
    assert close is not None
    ending = Ending(SIDES[first], close.code, close.reason)
    due = trio.current_time() + close_timeout
    done = True
    try:
        rest = await _await_close(streams[first], streams[1 - first], lanes[1 - first], waits, due)
        if rest is not None:
            done = False
            unsent = (rest, b"") if first == 0 else (b"", rest)
            return ending, unsent, max(0.0, due - trio.current_time())
        streams[0].close()
        await _await_eof(streams[1], waits, due)
        return ending
    finally:
        if done:
            for stream in streams:
                stream.close()


def _closed_first(lanes: tuple[Lane, Lane]) -> int | None:
    """Return whose Close has passed, if the other one may still speak."""
    for index, lane in enumerate(lanes):
        passed = lane.close is not None and lane.finished and lane.ending is None
        if passed and not lanes[1 - index].halted:
            return index
    return None


async def _await_close(
    listener: PlainStream, speaker: PlainStream, lane: Lane, waits: Waits, due: float
) -> bytes | None:
    """Pass what the other side has to say, up to its Close, or until the time is over.

    If it is not as simple as that, return what the listener still has to be sent.
    """

    def expose(wake: Callable[[], None]) -> None:
        lane.wake = wake

    while True:
        data = b""
        if lane.rest:
            await trio.lowlevel.checkpoint()
        else:
            try:
                woken = await waits.readable(speaker.socket.fileno(), due, expose=expose)
            finally:
                lane.wake = None
            if woken is Woken.TIMED_OUT:
                return None
        if lane.ending is not None:
            return b""
        if not lane.rest:
            try:
                received = speaker.receive_now(CHUNK)
            except BROKEN:
                return b""  # it will look like an end
            if received is None:
                continue
            if not received:
                return b""
            data = received
        passed = bytes(lane.feed(data, FRAMES_PER_TURN))
        if lane.violation is not None:
            return passed
        try:
            sent = listener.send_now(passed) if passed else 0
            if sent < len(passed):
                with trio.move_on_at(due):
                    await listener.send_all(passed[sent:])
        except BROKEN:
            lane.finished = True  # who has closed need not listen: there is nobody to be told
        if lane.over:
            return None


async def _await_eof(backend: PlainStream, waits: Waits, due: float) -> None:
    """Let the backend, which is the server there, close first (RFC 6455 §7.1.1)."""
    while True:
        try:
            data = backend.receive_now(CHUNK)
        except BROKEN:
            return
        if data is None:
            if await waits.readable(backend.socket.fileno(), due) is Woken.TIMED_OUT:
                return
        elif not data:
            return
