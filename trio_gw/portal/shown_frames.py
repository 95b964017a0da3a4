"""The frames of an attempt as the page sees them: numbered, cut, and for a while kept whole."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from msgspec import UNSET

from trio_gw.portal.console_messages import FrameEvent, NoticeEvent, RestEvent
from trio_gw.portal.inflating import Inflater
from trio_gw.wire import frames
from trio_gw.wire.frames import ViolationError

if TYPE_CHECKING:
    from trio_gw.portal.outbox import PageOutbox
    from trio_gw.wire.frame_reader import WholeFrame

    Way = Literal["in", "out"]

SHOWN = 64 << 10  # octets of a payload that are shown
KEEP = 1 << 20  # octets of a payload that are kept, to be shown on demand
KEPT = 2 << 20  # octets of all payloads that are kept
KINDS: dict[int, Literal["text", "binary", "continuation", "ping", "pong", "close"]] = {
    frames.CONTINUATION: "continuation",
    frames.TEXT: "text",
    frames.BINARY: "binary",
    frames.CLOSE: "close",
    frames.PING: "ping",
    frames.PONG: "pong",
}


class FrameView:
    """Shows frames to a page."""

    def __init__(self, outbox: PageOutbox) -> None:
        self._outbox = outbox
        self._number = 0
        self._kept: OrderedDict[int, tuple[bytes, bool]] = OrderedDict()
        self._kept_size = 0
        self._inflater: Inflater | None = None
        self._binary: dict[Way, bool] = {"in": False, "out": False}

    def compressed(self, extensions: str) -> None:
        """Inflate what comes, if that was negotiated."""
        if "permessage-deflate" in extensions:
            self._inflater = Inflater(takeover="server_no_context_takeover" not in extensions)

    def show(self, way: Way, frame: WholeFrame) -> None:
        """Show a frame."""
        self._number += 1
        opcode, payload, cut = frame.opcode, frame.payload, len(frame.payload) < frame.size
        inflated = None
        if self._inflater is not None and way == "in":
            inflated = self._inflater.inflate(frame)
        if inflated is not None:
            payload, cut = inflated[:KEEP], len(inflated) > KEEP
        if len(payload) > SHOWN:
            self._keep(payload, cut=cut)
            cut = True
        if opcode in (frames.TEXT, frames.BINARY):
            self._binary[way] = opcode == frames.BINARY
        binary = opcode == frames.BINARY or (opcode == frames.CONTINUATION and self._binary[way])
        code, reason = None, None
        if opcode == frames.CLOSE:
            try:
                code, reason = frames.parse_close(payload)
            except ViolationError:
                binary = True
        text = None if binary or opcode == frames.CLOSE else _text(payload[:SHOWN], cut=cut)
        raw = text is None and opcode != frames.CLOSE
        self._outbox.show(
            FrameEvent(
                n=self._number,
                way=way,
                kind=KINDS[opcode],
                fin=frame.fin,
                size=frame.size,
                at=time.time() * 1000,
                cut=cut,
                text=UNSET if text is None else text,
                base64=payload[:SHOWN] if raw else UNSET,
                compressed=frame.compressed,
                code=UNSET if code is None else code,
                reason=UNSET if reason is None else reason,
            )
        )

    def _keep(self, payload: bytes, *, cut: bool) -> None:
        self._kept[self._number] = payload, cut
        self._kept_size += len(payload)
        while self._kept_size > KEPT:
            _, (old, _) = self._kept.popitem(last=False)
            self._kept_size -= len(old)

    def more(self, number: int) -> None:
        """Show the whole payload of a frame, as far as it was kept."""
        if (found := self._kept.get(number)) is None:
            self._outbox.tell(NoticeEvent(f"frame {number} is not kept any more"))
        else:
            self._outbox.tell(RestEvent(number, *found))


def _text(payload: bytes, *, cut: bool) -> str | None:
    """Decode text; None if it is none. The end of a cut one may be in the middle of a character."""
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        if cut and error.start >= len(payload) - 3:
            return payload[: error.start].decode()
        return None
