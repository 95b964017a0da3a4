"""The usual end of a connection: one side's Close has passed, only the other side's is missing.

Between plain sockets this takes two waits and no task. Anything else (a side that vanishes, a
violation, an end by the gateway) is left to `pump`, which alone decides how connections end. This
file does what `pump` would do.
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
"""For `pump`: the ending, what is still to be sent to client and backend, the seconds left."""

SIDES = (Side.CLIENT, Side.BACKEND)


def are_plain(streams: tuple[trio.abc.Stream, trio.abc.Stream]) -> TypeGuard[Streams]:
    """Return whether both are sockets without TLS."""
    return isinstance(streams[0], PlainStream) and isinstance(streams[1], PlainStream)


async def finish(
    streams: Streams, lanes: tuple[Lane, Lane], waits: Waits, close_timeout: float
) -> Ending | Rest:
    """End a connection with nothing else to send. Client and backend come in this order.

    Both streams are closed when this returns an `Ending`, or raises.
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
    """Return the side whose Close has passed, if the other side may still send."""
    for index, lane in enumerate(lanes):
        passed = lane.close is not None and lane.finished and lane.ending is None
        if passed and not lanes[1 - index].halted:
            return index
    return None


async def _await_close(
    listener: PlainStream, speaker: PlainStream, lane: Lane, waits: Waits, due: float
) -> bytes | None:
    """Relay what the other side sends, up to its Close, or until the time is over.

    If anything else happens, return what is still to be sent to the listener.
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
                return b""  # `pump` meets it again, as an end
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
            lane.finished = True  # a side that has sent its Close need not receive any more
        if lane.over:
            return None


async def _await_eof(backend: PlainStream, waits: Waits, due: float) -> None:
    """Let the backend close first: it is the server of that connection (RFC 6455 §7.1.1)."""
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
