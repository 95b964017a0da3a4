"""One attempt from the console: a WebSocket connection to a topic, made inside the process.

One half of a pair of sockets goes to the handler of the plain listener, with the address of the
browser as the peer. So the gateway sees a client like any other: limits, deny conditions, logs and
metrics apply, and nothing but its own routes can be reached. What comes is read at once, however
slow the page is: the backend is never held up by it.
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

import trio

from trio_gw.errors import CloseCode, Refusal, Side
from trio_gw.portal.console_messages import (
    ClosedEvent,
    DialingEvent,
    NoticeEvent,
    OpenedEvent,
    PongEvent,
    RefusedEvent,
)
from trio_gw.portal.explained_refusals import explain_refusal
from trio_gw.portal.explanations import explain_close
from trio_gw.portal.shown_frames import KEEP, FrameView
from trio_gw.relay.lingering_close import BROKEN
from trio_gw.relay.plain import PlainStream
from trio_gw.wire import frames
from trio_gw.wire.fields import by_name
from trio_gw.wire.frame_reader import RSV1, FrameReader, WholeFrame
from trio_gw.wire.frames import FIN, ViolationError
from trio_gw.wire.response import ResponseReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio_gw.errors import Ending
    from trio_gw.portal.attempt_request import AttemptRequest
    from trio_gw.portal.outbox import PageOutbox
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.wire.response import BackendResponse

    FrontDoor = Callable[[PlainStream, str], Awaitable[None]]

HANDSHAKE = 150.0  # seconds; the gateway's own deadlines are shorter
GOODBYE = 6.0  # seconds for the answer to a Close frame, and for the gateway to end
CHUNK = 1 << 16  # bytes of one receive
TURN = 200  # frames to look at before other tasks run
MAX_BODY = 64 << 10  # bytes of a refusal's body that are shown
MAX_QUEUED = 2 << 20  # bytes that wait for the gateway to take them
MAX_WAITING = 1000  # ... and frames
_UPGRADE = ((b"host", b"-"), (b"upgrade", b"websocket"), (b"connection", b"upgrade"))
MAX_PINGS = 100  # without an answer


class Attempt:
    """One connection; `run` makes it and tells the page what comes of it."""

    def __init__(
        self, front_door: FrontDoor, sessions: Sessions, peer: str, outbox: PageOutbox
    ) -> None:
        self._front_door = front_door
        self._sessions = sessions
        self._peer = peer
        self._outbox = outbox
        self._view = FrameView(outbox)
        self._queue: deque[tuple[int, bytes]] = deque()  # first byte and payload of frames to send
        self._queued = 0
        self._filled = trio.Event()
        self._pings: dict[bytes, deque[float]] = {}
        self._session: Session | None = None
        self._closed_by_us: tuple[int, str] | None = None
        self._stream: PlainStream | None = None
        self._given_up = False
        self.open = False
        self.over = False

    # -- what the page asks for --------------------------------------------------------------

    def send(self, parts: Iterable[tuple[int, bytes]]) -> bool:
        """Queue the frames of a message; returns whether that was possible."""
        chosen = list(parts)
        size = sum(len(payload) for _, payload in chosen)
        if not self.open or self._closed_by_us is not None:
            self._outbox.tell(NoticeEvent("not sent: the connection is not open"))
        elif self._queued + size > MAX_QUEUED or len(self._queue) + len(chosen) > MAX_WAITING:
            self._outbox.tell(NoticeEvent("not sent: earlier messages still wait to be taken"))
        else:
            self._put(chosen)
            return True
        return False

    def ping(self, payload: bytes) -> None:
        """Queue a Ping, and measure when its Pong comes."""
        if sum(map(len, self._pings.values())) >= MAX_PINGS:
            self._outbox.tell(NoticeEvent("not sent: too many Pings have no answer yet"))
        elif self.send([(FIN | frames.PING, payload)]):
            self._pings.setdefault(payload, deque()).append(math.nan)

    def close(self, code: int, reason: str) -> None:
        """Close the connection; before it is open: give up."""
        if not self.open:
            self.hang_up()
        elif self._closed_by_us is None:
            self._closed_by_us = code, reason
            frame = frames.close_frame(code, reason, masked=False)
            self._put([(FIN | frames.CLOSE, frame[2:])])

    def hang_up(self) -> None:
        """End without a Close frame: the page has gone, or gives up a handshake."""
        self._given_up = True
        if self._stream is not None:
            self._stream.close()

    def more(self, number: int) -> None:
        """Show the whole payload of a frame."""
        self._view.more(number)

    def _put(self, parts: Iterable[tuple[int, bytes]]) -> None:
        for first, payload in parts:
            self._queue.append((first, payload))
            self._queued += len(payload)
        self._filled.set()

    # -- the connection ----------------------------------------------------------------------

    async def run(self, request: AttemptRequest) -> None:
        """Make the connection, and return when it is over. Never raises."""
        ours, theirs = socket.socketpair()
        self._stream = PlainStream(ours)
        self._outbox.tell(DialingEvent(request.target, request.shown))
        served, serving = trio.Event(), trio.CancelScope(shield=True)

        async def serve() -> None:
            # Shielded: when the page has left, the gateway still says goodbye to the backend.
            with serving:
                await self._front_door(PlainStream(theirs), self._peer)
            served.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                await self._converse(self._stream, request, served)
            finally:
                self.open = False
                self._stream.close()
                # The gateway sees a client that has left, and tells the backend.
                with trio.move_on_after(GOODBYE, shield=True):
                    await served.wait()
                serving.cancel()
                self.over = True

    async def _converse(
        self, stream: PlainStream, request: AttemptRequest, served: trio.Event
    ) -> None:
        start, reader = trio.current_time(), ResponseReader()
        reader.request("/", _UPGRADE)
        try:
            with trio.fail_after(HANDSHAKE):
                await stream.send_all(request.data)
                answer = None
                while answer is None:
                    answer = reader.feed(await stream.receive_some(CHUNK))
                ms = (trio.current_time() - start) * 1000
                if answer.status != 101:
                    await self._refused(stream, reader, answer, ms)
                    return
        except (Refusal, trio.TooSlowError, *BROKEN) as error:
            if not self._given_up:
                why = "in time" if isinstance(error, trio.TooSlowError) else "that is HTTP"
                self._outbox.tell(NoticeEvent(f"the gateway gave no answer {why}"))
            else:
                self._outbox.tell(NoticeEvent("given up before the connection was open"))
            self._tell_end(None)
            return
        self._opened(answer, request, ms)
        extensions = _joined(answer, b"sec-websocket-extensions")
        rsv = RSV1 if "permessage-deflate" in extensions else 0
        self._view.compressed(extensions)
        incoming = FrameReader(masked=False, keep=KEEP, rsv=rsv)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_all, stream)
            close = await self._receive_all(stream, incoming, reader.leftover)
            nursery.cancel_scope.cancel()
        stream.close()
        with trio.move_on_after(GOODBYE):
            await served.wait()
        self._tell_end(close)

    async def _refused(
        self, stream: PlainStream, reader: ResponseReader, answer: BackendResponse, ms: float
    ) -> None:
        body, ended = reader.read_body()
        while not ended and len(body) <= MAX_BODY:
            if not (data := await stream.receive_some(CHUNK)):
                break
            part, ended = reader.feed_body(data)
            body += part
        shown = body[:MAX_BODY]
        self._outbox.tell(
            RefusedEvent(
                ms=ms,
                at=_now(),
                status=answer.status,
                phrase=answer.reason.decode("latin-1"),
                headers=_fields(answer),
                body=shown.decode(errors="replace"),
                cut=len(body) > MAX_BODY,
                request_id=_joined(answer, b"x-request-id"),
                explained=explain_refusal(answer.status, shown),
            )
        )

    def _opened(self, answer: BackendResponse, request: AttemptRequest, ms: float) -> None:
        request_id = _joined(answer, b"x-request-id") or request.request_id
        ours = (one for one in self._sessions if one.request_id == request_id)
        self._session = max(ours, key=lambda one: one.opened_at, default=None)
        self.open = True
        self._outbox.tell(
            OpenedEvent(
                ms=ms,
                at=_now(),
                status=answer.status,
                headers=_fields(answer),
                protocol=_joined(answer, b"sec-websocket-protocol"),
                extensions=_joined(answer, b"sec-websocket-extensions"),
                request_id=request_id,
            )
        )

    async def _receive_all(
        self, stream: PlainStream, reader: FrameReader, data: bytes
    ) -> frames.Close | None:
        """Read to the end. Returns the Close frame that came; None if none did."""
        close: frames.Close | None = None
        scope = trio.CancelScope()
        with scope, contextlib.suppress(*BROKEN):
            while True:
                turn = 0
                try:
                    for frame in reader.feed(data):
                        close = self._take(frame) or close
                        turn += 1
                        if turn % TURN == 0:
                            await trio.lowlevel.checkpoint()
                except ViolationError as error:
                    self._outbox.tell(
                        NoticeEvent(f"the gateway sent an invalid frame: {error.what}")
                    )
                    return close
                if close is not None and scope.deadline == math.inf:
                    scope.deadline = trio.current_time() + GOODBYE
                if not (data := await stream.receive_some(CHUNK)):
                    break
        return close

    def _take(self, frame: WholeFrame) -> frames.Close | None:
        """Take a frame that has come; returns what it says if it is a Close frame."""
        self._view.show("in", frame)
        if frame.opcode == frames.PING:
            room = self._queued + frame.size <= MAX_QUEUED and len(self._queue) < MAX_WAITING
            if room and self._closed_by_us is None:
                self._put([(FIN | frames.PONG, frame.payload)])
        elif frame.opcode == frames.PONG:
            if (sent := self._pings.get(frame.payload)) and not math.isnan(sent[0]):
                ms = (trio.current_time() - sent.popleft()) * 1000
                self._outbox.tell(PongEvent(ms, _now(), frame.payload.decode(errors="replace")))
                if not sent:
                    del self._pings[frame.payload]
        elif frame.opcode == frames.CLOSE:
            close = frames.parse_close(frame.payload)
            if self._closed_by_us is None:
                self._closed_by_us = close.code, ""
                self._put([(FIN | frames.CLOSE, frame.payload[:2])])
            return close
        return None

    async def _send_all(self, stream: PlainStream) -> None:
        """Send what is queued, until cancelled."""
        with contextlib.suppress(*BROKEN):
            while True:
                while self._queue:
                    first, payload = self._queue.popleft()
                    if first == FIN | frames.PING and (sent := self._pings.get(payload)):
                        sent[_first_nan(sent)] = trio.current_time()
                    await stream.send_all(frames.frame(first, payload, masked=True))
                    self._queued -= len(payload)
                    self._view.show("out", WholeFrame(first, len(payload), payload[:KEEP]))
                self._filled = trio.Event()
                await self._filled.wait()

    def _tell_end(self, close: frames.Close | None) -> None:
        ending: Ending | None = None if self._session is None else self._session.ending
        by = None if ending is None else ending.by
        if close is not None:
            code, reason = close
        elif ending is not None and self._given_up is False:
            code, reason = CloseCode.ABNORMAL, ending.reason
        else:
            code, reason = CloseCode.ABNORMAL, ""
        if self._given_up:
            by = Side.CLIENT
        self._outbox.tell(
            ClosedEvent(
                at=_now(),
                code=int(code),
                reason=reason,
                by="" if by is None else str(by),
                clean=close is not None,
                explained=explain_close(int(code), reason, by),
            )
        )


def _first_nan(sent: deque[float]) -> int:
    return next((place for place, at in enumerate(sent) if math.isnan(at)), 0)


def _now() -> float:
    """Return the time as scripts have it: in milliseconds."""
    return time.time() * 1000


def _fields(answer: BackendResponse) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]


def _joined(answer: BackendResponse, name: bytes) -> str:
    return b", ".join(by_name(answer.headers).get(name, ())).decode("latin-1")
