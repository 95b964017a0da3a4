"""What a client sends first on a TLS port: a ClientHello, or something else. No I/O.

Used for the log, only when a handshake fails. RFC 8446 §4.1.2, §5.1; RFC 6066 §3. Incomplete or
malformed messages are parsed as far as possible.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_BYTES = 4096  # bytes that are read; a ClientHello with post-quantum keys has about 1,800
MIN_BYTES = 16  # bytes that are enough to recognise anything but TLS

PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"  # haproxy.org/download/2.8/doc/proxy-protocol.txt §2.2

_REQUEST = re.compile(rb"[A-Za-z]{3,20} (?:/|\*|[A-Za-z]{2,5}:)")
_REQUEST_START = re.compile(rb"[A-Za-z]{0,20}(?: [ -~]*)?")
_CONNECT = re.compile(rb"CONNECT ", re.IGNORECASE)
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _SUPPORTED_VERSIONS = 0, 43
_VERSIONS = {0x300: "SSL 3.0", 0x301: "TLS 1.0", 0x302: "TLS 1.1", 0x303: "TLS 1.2"}
_VERSIONS |= {0x304: "TLS 1.3"}
_SIGNALS = (0x00FF, 0x5600)  # signals, no cipher suites (RFC 5746 §3.3, RFC 7507)


class Hello(NamedTuple):
    """What a ClientHello offers. `versions` are names, newest first; `ciphers` code points."""

    versions: tuple[str, ...] = ()
    ciphers: tuple[int, ...] = ()
    name: str = ""


def is_tls(data: bytes) -> bool:
    """Return whether the first bytes may be a TLS record, or a ClientHello of SSL 2.0."""
    return data[:1] == b"\x16" or (data[:1] >= b"\x80" and data[2:3] in (b"", b"\x01"))


def is_proxy(data: bytes | bytearray) -> bool:
    """Return whether this is a header of the PROXY protocol."""
    return data.startswith((b"PROXY ", PROXY_V2))


def is_http(data: bytes) -> bool:
    """Return whether this is a plain HTTP request of any version."""
    return _REQUEST.match(data) is not None or _CONNECT.match(data) is not None


def needs_more(data: bytes) -> bool:
    """Return whether more bytes are needed to recognise this, or to answer a complete line."""
    if is_proxy(data) or PROXY_V2.startswith(data):
        return not is_proxy(data)
    if len(data) >= MIN_BYTES and not is_http(data):
        return False
    return (
        b"\n" not in data
        and _REQUEST_START.fullmatch(data[:MIN_BYTES]) is not None
        and len(data) < MAX_BYTES
    )


def read(data: bytes) -> Hello | None:
    """Parse a ClientHello; None if this is something else."""
    if data[:1] != bytes((_HANDSHAKE,)) or data[5:6] != bytes((_CLIENT_HELLO,)):
        return None
    # A ClientHello longer than a record would contain further record headers. No current client
    # sends one.
    rest = _ByteReader(data[9 : 5 + int.from_bytes(data[3:5])])
    version = rest.number(2)
    rest.take(32)
    rest.take(rest.number(1))
    ciphers = _ByteReader(rest.take(rest.number(2)))
    codes = tuple(code for code in ciphers.pairs() if code not in _SIGNALS and not _grease(code))
    rest.take(rest.number(1))
    versions, name = [version], ""
    extensions = _ByteReader(rest.take(rest.number(2)))
    while extensions:
        kind = extensions.number(2)
        body = _ByteReader(extensions.take(extensions.number(2)))
        if kind == _SUPPORTED_VERSIONS:
            body.number(1)
            versions = [found for found in body.pairs() if not _grease(found)] or versions
        elif kind == _SERVER_NAME:
            body.take(3)
            name = body.take(body.number(2)).decode("ascii", "backslashreplace")[:253]
    known = sorted({found for found in versions if found in _VERSIONS}, reverse=True)
    return Hello(tuple(_VERSIONS[found] for found in known), codes, name)


class _ByteReader:
    """Takes bytes from the front, as far as there are any."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def take(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def pairs(self) -> list[int]:
        """Take the rest, as numbers of two bytes."""
        data = self.take(len(self._data))
        return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data) - 1, 2)]


def _grease(code: int) -> bool:
    """Return whether this is a GREASE value, without a meaning (RFC 8701 §2)."""
    return code & 0x0F0F == 0x0A0A and code >> 8 == code & 0xFF
