"""Frames taken apart for message mode, without I/O: what passes as it is, what makes a message.

Fed with what a `Lane` passed, so every header is valid and whole. Control frames come out as they
were. Data frames come out bit by bit, for a library that puts messages together; it is told that
every message is binary, for it must not judge text (`relay.messages` says why). What would make
a message too big is refused at the header that says so, before any of it is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.errors import CloseCode
from trio_gw.wire import frames
from trio_gw.wire.frames import ViolationError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FRAGMENTS = 4096  # of one message; empty ones cost as much as others


class Part(NamedTuple):
    """A whole control frame, or some bytes of a message. `last` is set where a message ends."""

    data: bytes
    control: bool = False
    last: bool = False
    text: bool = False


class Assembly:
    """One direction. `masked` as for its lane; `limit` in bytes of payload of one message."""

    def __init__(self, *, masked: bool, limit: int) -> None:
        self._key = 4 if masked else 0
        self._limit = limit
        self._left = 0  # bytes still to come of the current frame
        self._control: bytearray | None = None  # the control frame that is under way
        self._final = False  # the current data frame is the last of its message
        self._text = False
        self._size = 0  # of the message so far, what is announced included
        self._fragments = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Take apart what a lane passed. Raises `ViolationError` where it exceeds a bound."""
        view = memoryview(data)
        at = 0
        while at < len(view):
            if self._left == 0:
                first, head = view[at], self._head(view, at)
                end = min(len(view), at + head + self._left)
                self._left -= end - at - head
                if first & 0x0F >= frames.CLOSE:
                    self._control = bytearray(view[at:end])
                else:
                    if first & 0x0F == frames.TEXT:
                        first = first & 0xF0 | frames.BINARY
                    yield self._piece(bytes((first,)) + bytes(view[at + 1 : end]))
            else:
                end = min(len(view), at + self._left)
                self._left -= end - at
                if self._control is None:
                    yield self._piece(bytes(view[at:end]))
                else:
                    self._control += view[at:end]
            at = end
            if self._control is not None and self._left == 0:
                whole, self._control = bytes(self._control), None
                yield Part(whole, control=True)

    def _head(self, view: memoryview, at: int) -> int:
        """Read a frame's header; returns its size. `_left` is then that of the payload."""
        first, length, size = view[at], view[at + 1] & 0x7F, 2
        if length >= 126:
            size = 4 if length == 126 else 10
            length = int.from_bytes(view[at + 2 : at + size], "big")
        self._left = length
        if first & 0x0F < frames.CLOSE:
            self._begin(first, length)
        return size + self._key

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

    def _piece(self, data: bytes) -> Part:
        return Part(data, last=self._final and self._left == 0, text=self._text)
