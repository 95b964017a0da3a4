"""Reads WebSocket frames one by one, with their payloads (RFC 6455 §5). No I/O.

For the ends of a connection: the portal's own WebSockets, and the attempts of its console. The
relay does not read payloads; it has `relay.lane`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.errors import CloseCode
from trio_gw.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    MASK,
    MAX_CONTROL,
    PING,
    PONG,
    TEXT,
    ViolationError,
    apply_mask,
    header,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

RSV, RSV1, OPCODE = 0x70, 0x40, 0x0F
_DATA = frozenset((CONTINUATION, TEXT, BINARY))
_KNOWN = _DATA | {CLOSE, PING, PONG}


class WholeFrame(NamedTuple):
    """One frame. `first` holds FIN, RSV and opcode; `size` is the length of the whole payload.

    `payload` is unmasked, and may be cut to its first bytes.
    """

    first: int
    size: int
    payload: bytes

    @property
    def opcode(self) -> int:
        """The kind of the frame."""
        return self.first & OPCODE

    @property
    def fin(self) -> bool:
        """Whether it is the last frame of its message."""
        return bool(self.first & FIN)

    @property
    def compressed(self) -> bool:
        """Whether RSV1 is set: the first frame of a message of permessage-deflate."""
        return bool(self.first & RSV1)


class FrameReader:
    """Splits the bytes of one direction into frames.

    `masked`: the sender must mask. `keep`: bytes of a payload that are kept; with `most` a longer
    frame is a violation, otherwise the rest is counted and dropped. `rsv`: the RSV bits that
    negotiated extensions use.
    """

    def __init__(self, *, masked: bool, keep: int, most: int = 0, rsv: int = 0) -> None:
        self._masked = masked
        self._keep = keep
        self._most = most
        self._rsv = rsv
        self._buffer = bytearray()  # an incomplete header
        self._inside = False  # of a fragmented message
        self._first = self._size = self._need = 0
        self._key = b""
        self._payload = bytearray()
        self._reading = False  # a payload

    def feed(self, data: bytes) -> Iterator[WholeFrame]:
        """Add bytes; yields the frames that are complete. Raises `ViolationError`.

        The iterator must be used up before the next call.
        """
        at, end = 0, len(data)
        while at < end or (self._reading and not self._need):
            if not self._reading:
                take = self._missing()
                self._buffer += data[at : at + take]
                at = min(at + take, end)
                if not self._missing():
                    self._begin()
                continue
            part = data[at : at + self._need]
            at += len(part)
            self._need -= len(part)
            if (room := self._keep - len(self._payload)) > 0:
                self._payload += part[:room]
            if not self._need:
                yield self._finish()

    def _missing(self) -> int:
        """Return how many bytes of the header are missing, as far as that is known."""
        have = len(self._buffer)
        if have < 2:
            return 2 - have
        length = self._buffer[1] & 0x7F
        size = 2 + (0 if length < 126 else 2 if length == 126 else 8)
        size += 4 if self._buffer[1] & MASK else 0
        return size - have

    def _begin(self) -> None:
        first, length, size = header(self._buffer, 0)
        masked = bool(self._buffer[1] & MASK)
        self._check(first, length, masked=masked)
        self._key = bytes(self._buffer[size : size + 4]) if masked else b""
        self._first, self._size, self._need = first, length, length
        self._payload.clear()
        self._buffer.clear()
        self._reading = True

    def _check(self, first: int, length: int, *, masked: bool) -> None:
        opcode, fin = first & OPCODE, first & FIN
        if masked is not self._masked:
            raise ViolationError("frame is masked" if masked else "frame is not masked")
        if first & RSV & ~self._rsv:
            raise ViolationError("reserved bit without an extension that uses it")
        if opcode not in _KNOWN:
            raise ViolationError(f"unknown opcode {opcode}")
        if opcode not in _DATA:
            if not fin:
                raise ViolationError("fragmented control frame")
            if length > MAX_CONTROL:
                raise ViolationError("control frame longer than 125 bytes")
            return
        if (opcode == CONTINUATION) is not self._inside:
            what = "new message inside a message" if self._inside else "continuation of no message"
            raise ViolationError(what)
        if self._most and length > self._most:
            raise ViolationError(f"frame of more than {self._most} bytes", CloseCode.TOO_BIG)
        self._inside = not fin

    def _finish(self) -> WholeFrame:
        self._reading = False
        payload = bytes(self._payload)
        self._payload = bytearray()
        if self._key:
            payload = apply_mask(payload, self._key)
        return WholeFrame(self._first, self._size, payload)
