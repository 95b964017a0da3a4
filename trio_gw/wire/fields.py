"""Header fields of requests and responses: parsed, and found by their names. No I/O.

Names are in lower case after parsing. This code runs for every field of every handshake, twice, so
it takes the shortest way for what nearly all peers send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Field = tuple[bytes, bytes]

# The octets that a head may contain: no control characters but TAB, CR and LF.
NO_CONTROLS = bytes(
    octet for octet in range(256) if octet in b"\t\r\n" or not (octet < 32 or octet == 127)
)
_IN_NAMES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ABOUT_BODIES = frozenset((b"content-length", b"transfer-encoding"))
_USUAL = (
    b"Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Cookie Date"
    b" Host Origin Pragma Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key"
    b" Sec-WebSocket-Protocol Sec-WebSocket-Version Server Upgrade User-Agent X-Forwarded-For"
    b" X-Request-ID"
).split()
# The usual spellings of the usual names.
_LOWER = {spelling: name.lower() for name in _USUAL for spelling in (name, name.lower())}

NONE: Sequence[bytes] = ()


def split_lines(text: bytes) -> list[bytes]:
    """Split a text at its line ends.

    Returns no lines if it contains control characters other than TAB and CR LF, or ends with a line
    end.
    """
    if text.endswith((b"\r", b"\n")) or text.translate(None, NO_CONTROLS):
        return []
    lines = text.splitlines()
    # `splitlines` also splits at a CR or an LF alone. Then the sum of the lengths is too small.
    return lines if len(b"".join(lines)) + 2 * (len(lines) - 1) == len(text) else []


def plain_fields(lines: Sequence[bytes]) -> list[Field] | None:
    """Parse header lines, from `split_lines`, if there is nothing for h11 to decide.

    Returns None for a malformed or folded line, and for a field about a body. Most handshakes need
    no more than this, at a fraction of the cost.
    """
    fields = []
    for line in lines:
        raw, colon, value = line.partition(b":")
        name = _LOWER.get(raw)
        if name is None:
            if not raw or raw.translate(None, _IN_NAMES):
                return None
            name = raw.lower()
            if name in _ABOUT_BODIES:
                return None
        if not colon:
            return None
        fields.append((name, value.strip(b" \t")))
    return fields


def by_name(fields: Iterable[Field]) -> dict[bytes, list[bytes]]:
    """Index fields by their names."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
    return found


def tokens(values: Iterable[bytes]) -> list[str]:
    """Split comma-separated lists into their trimmed, non-empty elements (RFC 9110 §5.6.1)."""
    joined = b",".join(values).decode("latin-1")
    return [token for piece in joined.split(",") if (token := piece.strip(" \t"))]


def has_token(values: Sequence[bytes], name: bytes) -> bool:
    """Return whether comma-separated lists contain a name, in upper or lower case."""
    if len(values) == 1 and values[0].lower() == name:
        return True  # the usual case
    wanted = name.decode("ascii")
    return any(token.lower() == wanted for token in tokens(values))
