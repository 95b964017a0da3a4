"""The binary data bridge: events for the Traffic Manager of API Manager, and its replies. No I/O.

All integers are big-endian. A message begins with its kind and the number of bytes that follow. A
session begins with a login on a TLS connection. The reply has the identifier of the session, which
every batch of events names, also on other connections. spec: control-plane §8.1, §13: lengths
count bytes, also those of a user's name.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOGIN, LOGOUT, PUBLISH = 0, 1, 2
OK, ERROR, SESSION = 0, 1, 2
MAX_TEXT: Final = 64 * 1024  # bytes of a text in a reply
MAX_SESSION: Final = 4096  # bytes of the identifier of a session
SESSION_TIMEOUT: Final = "org.wso2.carbon.databridge.commons.exception.SessionTimeoutException"

_INT = struct.Struct(">i")
_TWO_INTS = struct.Struct(">ii")
_KIND = struct.Struct(">bi")
_EVENT = struct.Struct(">iq")


class BridgeProtocolError(Exception):
    """A reply that breaks the protocol: nothing after it can be read."""


class BridgeReply(NamedTuple):
    """The reply to a message: an error class and its message, or the session of a login.

    Texts of the receiver are not trusted: they may hold anything, up to `MAX_TEXT` bytes.
    """

    session: bytes = b""
    error: str = ""
    message: str = ""

    @property
    def session_ended(self) -> bool:
        """Return whether the session is unknown or too old, so that a new login helps."""
        return self.error == SESSION_TIMEOUT


def login(username: str, password: str) -> bytes:
    """Encode a login."""
    user, secret = username.encode("utf-8", "replace"), password.encode("utf-8", "replace")
    body = _TWO_INTS.pack(len(user), len(secret)) + user + secret
    return _KIND.pack(LOGIN, len(body)) + body


def logout(session: bytes) -> bytes:
    """Encode the end of a session."""
    return _KIND.pack(LOGOUT, 4 + len(session)) + _text(session)


def publish(session: bytes, events: Sequence[bytes]) -> bytes:
    """Encode a batch of events, each encoded by `event`."""
    size = 8 + len(session) + sum(map(len, events))
    head = _KIND.pack(PUBLISH, size) + _text(session) + _INT.pack(len(events))
    return head + b"".join(events)


def beginning(stream: str, attributes: Iterable[str]) -> bytes:
    """Encode what the events of a connection have in common, for `event`.

    `attributes` are the first attributes of the stream with the identifier `stream`. All are texts.
    """
    texts = (text.encode("utf-8", "replace") for text in (stream, *attributes))
    return b"".join(map(_text, texts))


def event(timestamp: int, common: bytes, *last: bytes) -> bytes:
    """Encode an event with its size. `timestamp` in milliseconds; `last` is the last attribute."""
    size = sum(map(len, last))
    head = _EVENT.pack(12 + len(common) + size, timestamp)
    return b"".join((head, common, _INT.pack(size), *last))


class ReplyDecoder:
    """Decodes the replies on one connection, from pieces of any size."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes | bytearray) -> BridgeReply | None:
        """Take received bytes; returns a reply if one is complete.

        Each message is answered before the next is sent, so bytes after a reply are a violation.
        Raises BridgeProtocolError.
        """
        self._data += data
        found = self._decode()
        if found is None:
            return None
        reply, end = found
        if len(self._data) > end:
            raise BridgeProtocolError("bytes follow a reply")
        self._data.clear()
        return reply

    def _decode(self) -> tuple[BridgeReply, int] | None:
        data = self._data
        if not data:
            return None
        if data[0] == OK:
            return BridgeReply(), 1
        if data[0] == SESSION:
            if (size := self._length(1, MAX_SESSION)) is None:
                return None
            if not size:
                raise BridgeProtocolError("a login was accepted without a session")
            end = 5 + size
            return (BridgeReply(bytes(data[5:end])), end) if len(data) >= end else None
        if data[0] != ERROR:
            raise BridgeProtocolError(f"reply of unknown kind {data[0]}")
        kind, message = self._length(1, MAX_TEXT), self._length(5, MAX_TEXT)
        if kind is None or message is None:
            return None
        middle, end = 9 + kind, 9 + kind + message
        if len(data) < end:
            return None
        error = data[9:middle].decode("utf-8", "replace") or "an error without a class"
        return BridgeReply(b"", error, data[middle:end].decode("utf-8", "replace")), end

    def _length(self, at: int, most: int) -> int | None:
        """Read the length at a place, None if it is not there yet."""
        if len(self._data) < at + 4:
            return None
        (length,) = _INT.unpack_from(self._data, at)
        if not 0 <= length <= most:
            raise BridgeProtocolError(f"a text of {length} bytes in a reply")
        return int(length)


def _text(data: bytes) -> bytes:
    return _INT.pack(len(data)) + data
