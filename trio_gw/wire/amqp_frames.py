"""Frames of AMQP 0-9-1, split, and the contents of messages, assembled. Pure.

The broker chooses sizes, so both are bounded: a frame by what was agreed on, the body of a
message by `BODY_LIMIT`. A larger body is read and dropped.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

FRAME_MAX = 131072  # octets of a frame, from its type to its end
FRAME_MIN = 4096  # the largest frame before the broker proposes a size; no broker may propose less
BODY_LIMIT = 1 << 20  # octets of a message; a larger one is discarded
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8  # kinds of frames
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_END = 0xCE
_START = Struct(">BHI")  # kind, channel, size
_CONTENT = Struct(">HHQ")  # class, weight, octets of the body
_BASIC = 60  # the class of messages


class AmqpError(Exception):
    """The connection cannot go on. The text says why, without user and password.

    `refused`: the broker does not accept user and password.
    """

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class AmqpMessage(NamedTuple):
    """A message. `acknowledge` it, or a later one, after it is processed."""

    tag: int
    routing_key: str
    body: bytes


class AmqpDiscarded(NamedTuple):
    """A message above the limit, of `size` octets. Acknowledge it as any other."""

    tag: int
    size: int


class Frame(NamedTuple):
    """A whole frame: `data` has all its octets, `payload` only its content."""

    kind: int
    channel: int
    data: bytes

    @property
    def payload(self) -> bytes:
        """The octets between the size and the end."""
        return self.data[_START.size : -1]


class FrameSplitter:
    """Splits what arrives into frames of at most `frame_max` octets.

    Take all frames before more octets are fed: that bounds the memory.
    """

    def __init__(self) -> None:
        self.frame_max = FRAME_MIN
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Add octets that arrived."""
        self._data += data

    def next_frame(self) -> Frame | None:
        """Return the next frame, or None if more octets are needed. Raises AmqpError."""
        data = self._data
        if data.startswith(b"AMQP"):
            raise AmqpError("it speaks another version of AMQP, not 0-9-1")
        if (
            data
            and data[0] not in (METHOD, HEADER, BODY, HEARTBEAT)
            and not b"AMQP".startswith(data)
        ):
            raise AmqpError("it does not speak AMQP")
        if len(data) < _START.size:
            return None
        kind, channel, size = _START.unpack_from(data)
        whole = _START.size + size + 1
        if whole > self.frame_max:
            raise AmqpError(f"it sent a frame of {whole} octets, more than {self.frame_max}")
        if len(data) < whole:
            return None
        if data[whole - 1] != _END:
            raise AmqpError("it sent a frame without an end")
        frame = Frame(kind, channel, bytes(data[:whole]))
        del data[:whole]
        return frame


class Content:
    """The content of one message: a header, then bodies until the size that it announced."""

    def __init__(self, tag: int, routing_key: str) -> None:
        self._tag = tag
        self._routing_key = routing_key
        self._size = 0
        self._left: int | None = None  # octets; None until the header arrives
        self._body = bytearray()

    def add(self, frame: Frame) -> AmqpMessage | AmqpDiscarded | None:
        """Add a frame; return the message when it is whole. Raises AmqpError."""
        payload = frame.payload
        if frame.kind == HEADER:
            if self._left is not None or len(payload) < _CONTENT.size:
                raise AmqpError("it sent a content header that is not expected")
            belongs, _, self._size = _CONTENT.unpack_from(payload)
            if belongs != _BASIC:
                raise AmqpError("it sent a content header that is not expected")
            self._left = self._size
        else:
            if self._left is None or len(payload) > self._left:
                raise AmqpError("it sent more content than it announced")
            self._left -= len(payload)
            if self._size <= BODY_LIMIT:
                self._body += payload
        if self._left:
            return None
        if self._size > BODY_LIMIT:
            return AmqpDiscarded(self._tag, self._size)
        return AmqpMessage(self._tag, self._routing_key, bytes(self._body))
