"""Messages from the frames of one direction, for message mode (RFC 6455 §5.4). No I/O.

`Assembly.feed` takes what a `Lane` passed, so every header is valid, and whole up to its mask.
Control frames come out as they were. The payloads of data frames are unmasked and joined; each
message comes out once, when its last frame is complete. A message that would exceed a limit is
refused at the header that says so, before its payload is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.errors import CloseCode
from trio_gw.wire import frames
from trio_gw.wire.frames import ViolationError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FRAGMENTS = 4096  # of one message; an empty fragment costs as much as any other


class Message(NamedTuple):
    """A message and its type. Nobody has checked yet that the payload of a text is UTF-8."""

    payload: bytes
    text: bool


class Assembly:
    """One direction. `masked` as for its lane; `limit` in bytes of payload of one message."""

    def __init__(self, *, masked: bool, limit: int) -> None:
        self._mask = 4 if masked else 0  # bytes
        self._limit = limit
        self._left = 0  # bytes of the current frame's payload that have not arrived
        self._unread = 0  # bytes of its mask that have not arrived
        self._key = b""  # the mask of the next byte of the current frame, and of the three behind
        self._control: bytearray | None = None  # an incomplete control frame
        self._payload = bytearray()  # of the current message
        self._final = False  # the current data frame is the last of its message
        self._text = False
        self._size = 0  # of the current message, with what its headers announce
        self._fragments = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes | Message]:
        """Give each complete control frame, as its bytes, and each complete message, in order.

        Raises `ViolationError` where a message exceeds a limit.
        """
        view = memoryview(data)
        at = 0
        while at < len(view):
            if self._left == self._unread == 0:
                at = self._header(view, at)
            if self._unread:
                at = self._read_key(view, at)
                if self._unread:
                    return
            end = min(len(view), at + self._left)
            self._left -= end - at
            piece, at = view[at:end], end
            if self._control is not None:
                self._control += piece
                if self._left == 0:
                    whole, self._control = bytes(self._control), None
                    yield whole
                continue
            plain = self._unmasked(piece)
            if self._left == 0 and self._final:
                if self._payload:
                    self._payload += plain
                    plain, self._payload = bytes(self._payload), bytearray()
                complete = [Message(bytes(plain), self._text)]
                del plain, piece
                yield complete.pop()  # not kept here while it is sent
            else:
                self._payload += plain

    def _header(self, view: memoryview, at: int) -> int:
        """Read a frame's header up to its mask; returns where that begins."""
        start = at
        first, length, size = frames.header(view, at)
        at += size
        if first & 0x0F >= frames.CLOSE:
            self._control = bytearray(view[start:at])
        else:
            self._begin(first, length)
        self._left, self._key, self._unread = length, b"", self._mask
        return at

    def _read_key(self, view: memoryview, at: int) -> int:
        """Read what is there of the mask; returns where it ends. A lane may pass it in parts."""
        piece = bytes(view[at : at + self._unread])
        self._key += piece
        self._unread -= len(piece)
        if self._control is not None:
            self._control += piece
        return at + len(piece)

    def _begin(self, first: int, length: int) -> None:
        if first & 0x0F != frames.CONTINUATION:
            self._text = first & 0x0F == frames.TEXT
            self._size = self._fragments = 0
        self._final = bool(first & frames.FIN)
        self._size += length
        self._fragments += 1
        if self._size > self._limit:
            what = f"message of more than {self._limit} bytes"
            raise ViolationError(what, CloseCode.TOO_BIG)
        if self._fragments > MAX_FRAGMENTS:
            what = f"message of more than {MAX_FRAGMENTS} fragments"
            raise ViolationError(what, CloseCode.TOO_BIG)

    def _unmasked(self, piece: memoryview) -> bytes | memoryview:
        if not self._mask:
            return piece
        key = self._key
        if turn := len(piece) % 4:
            self._key = key[turn:] + key[:turn]
        return frames.apply_mask(piece, key)
