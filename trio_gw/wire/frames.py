"""WebSocket frames (RFC 6455 §5), as far as a relay reads them. No I/O.

The relay does not unmask or decode payloads. The one exception is the code and the reason in a
Close frame, which the gateway checks and records.
"""

from __future__ import annotations

import functools
import secrets
from typing import NamedTuple

from trio_gw.errors import CloseCode

FIN, MASK = 0x80, 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX_CONTROL = 125  # bytes of a control frame's payload (RFC 6455 §5.5)
MAX_REASON = MAX_CONTROL - 2
# Bytes below which one operation on large integers masks faster than four on tables: measured.
_SHORT = 512

# The registered codes (IANA) that may be sent: not 1004, 1005, 1006, 1015. 3000 to 4999 are free.
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))


class Close(NamedTuple):
    """What a Close frame contains. The code is 1005 if it contains none."""

    code: int
    reason: str


class ViolationError(Exception):
    """A peer broke the protocol. `code` is the close code for it."""

    def __init__(self, what: str, code: CloseCode = CloseCode.PROTOCOL_ERROR) -> None:
        self.what = what
        self.code = code
        super().__init__(what)


def header(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int, int]:
    """Read a valid, complete header: its first byte, the payload's length, and its own length.

    Its own length is without the masking key. The hot path of the relay has its own (`Lane._scan`).
    """
    first, length, size = data[at], data[at + 1] & 0x7F, 2
    if length >= 126:
        size = 4 if length == 126 else 10
        length = int.from_bytes(data[at + 2 : at + size], "big")
    return first, length, size


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """Build a Close frame. Towards a backend the gateway is a client, so it masks (§5.3)."""
    if code == CloseCode.NO_STATUS:
        payload = b""
    else:
        # Cut a long reason between characters.
        text = reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
        payload = code.to_bytes(2, "big") + text
    head = bytes((FIN | CLOSE, len(payload) | (MASK if masked else 0)))
    if not masked:
        return head + payload
    key = secrets.token_bytes(4)
    return head + key + apply_mask(payload, key)


def data_frame(payload: bytes, *, text: bool, masked: bool) -> bytes:
    """Build the one frame of a message (§5.2); `masked` towards a backend (§5.3)."""
    return frame(FIN | (TEXT if text else BINARY), payload, masked=masked)


def frame(first: int, payload: bytes, *, masked: bool) -> bytes:
    """Build any frame; `first` holds FIN, RSV and opcode."""
    size, bit = len(payload), MASK if masked else 0
    if size < 126:
        head = bytes((first, size | bit))
    elif size < 65536:
        head = bytes((first, 126 | bit)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 127 | bit)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = secrets.token_bytes(4)
    return b"".join((head, key, apply_mask(payload, key)))


def apply_mask(payload: bytes | bytearray | memoryview, key: bytes | bytearray) -> bytes:
    """Mask or unmask a payload (§5.3)."""
    size = len(payload)
    if size < _SHORT:
        mask = (key * (size // 4 + 1))[:size]
        return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    masked = bytearray(payload)
    for at in range(4):
        masked[at::4] = masked[at::4].translate(_xor_table(key[at]))
    return bytes(masked)


@functools.cache
def _xor_table(byte: int) -> bytes:
    return bytes(each ^ byte for each in range(256))


def parse_close(payload: bytes | bytearray) -> Close:
    """Read an unmasked Close payload (§5.5.1, §7.4).

    Raises `ViolationError` for a payload of one byte, a code that must not be on the wire, and
    a reason that is not UTF-8 (1007).
    """
    if not payload:
        return Close(CloseCode.NO_STATUS, "")
    if len(payload) == 1:
        raise ViolationError("close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CODES and not 3000 <= code <= 4999:
        raise ViolationError(f"close code {code} must not be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        what = "close reason is not UTF-8"
        raise ViolationError(what, CloseCode.INVALID_PAYLOAD) from None
