"""WebSocket frame headers (RFC 6455 §5): what a relay needs to know of them. No I/O.

Payloads are never unmasked or decoded, with one exception: the two-byte code and the reason in
a Close frame, which the gateway judges and records.
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

# Registered for the wire (IANA); 1004, 1005, 1006 and 1015 are not, 3000 to 4999 are free to use.
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))


class Close(NamedTuple):
    """What a Close frame said; code 1005 when it carried none."""

    code: int
    reason: str


class ViolationError(Exception):
    """A peer broke the protocol; `code` is the close code that says how."""

    def __init__(self, what: str, code: CloseCode = CloseCode.PROTOCOL_ERROR) -> None:
        self.what = what
        self.code = code
        super().__init__(what)


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """Build a Close frame; towards a backend the gateway is a client, so it masks (§5.3)."""
    if code == CloseCode.NO_STATUS:
        payload = b""
    else:
        # A reason is cut between characters, never inside one.
        text = reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
        payload = code.to_bytes(2, "big") + text
    head = bytes((FIN | CLOSE, len(payload) | (MASK if masked else 0)))
    if not masked:
        return head + payload
    key = secrets.token_bytes(4)
    return head + key + apply_mask(payload, key)


def data_frame(payload: bytes, *, text: bool, masked: bool) -> bytes:
    """Build the one frame of a message (§5.2); `masked` towards a backend (§5.3)."""
    size, bit = len(payload), MASK if masked else 0
    first = FIN | (TEXT if text else BINARY)
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
