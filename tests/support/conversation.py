"""Frames in the words of RFC 6455, and a lane as a conversation.

A test reads like a trace of the wire:

    talk(lane).feeds(ping).forwards(ping).feeds(bad).closes(1002)

`Conversation` stands where `relay.pump` stands: it feeds the lane, flushes it when it halts, and
keeps all that went out. What it says about frames it works out by itself, with `split_frames`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.wire import frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trio_gw.relay.lane import Lane

KEY = b"\x11\x22\x83\xf4"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = None,
    length: int | None = None,
) -> bytes:
    """Build one frame; `key` masks it. `length` 126 or 127 asks for that form, fitting or not."""
    size = len(payload)
    if length is None:
        length = size if size < 126 else 126 if size < 65536 else 127
    head = bytes(((0x80 if fin else 0) | rsv | opcode, length | (0x80 if key is not None else 0)))
    if length == 126:
        head += size.to_bytes(2, "big")
    elif length == 127:
        head += size.to_bytes(8, "big")
    if key is None:
        return head + payload
    repeated = (key * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + key + mixed.to_bytes(size, "big")


def text(payload: bytes = b"hello", *, key: bytes | None = None, fin: bool = True) -> bytes:
    """Build a text frame."""
    return frame(frames.TEXT, payload, key=key, fin=fin)


def close(code: int | None = None, reason: bytes = b"", *, key: bytes | None = None) -> bytes:
    """Build a Close frame, as wrong as asked for."""
    payload = b"" if code is None else code.to_bytes(2, "big") + reason
    return frame(frames.CLOSE, payload, key=key)


class Seen(NamedTuple):
    """One frame as a receiver reads it."""

    first: int
    masked: bool
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first & 0x0F

    @property
    def code(self) -> int:
        """The code of a Close frame, 1005 when it has none."""
        assert self.opcode == frames.CLOSE
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005

    @property
    def reason(self) -> str:
        return self.payload[2:].decode()


def split_frames(data: bytes) -> tuple[list[Seen], bytes]:
    """Read frames as a receiver would; returns them and the beginning of an unfinished one."""
    found = []
    at = 0
    while len(data) - at >= 2:
        length = data[at + 1] & 0x7F
        body = at + 2
        if length >= 126:
            width = 2 if length == 126 else 8
            length = int.from_bytes(data[body : body + width], "big")
            body += width
        masked = data[at + 1] >= 0x80
        key = data[body : body + 4] if masked else bytes(4)
        body += 4 if masked else 0
        if body + length > len(data):
            break
        payload = bytes(octet ^ key[i % 4] for i, octet in enumerate(data[body : body + length]))
        found.append(Seen(data[at], masked, payload))
        at = body + length
    return found, data[at:]


def cuts(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Give the data whole, octet by octet, and in two parts cut at every place."""
    yield (data,)
    yield tuple(data[at : at + 1] for at in range(len(data)))
    for at in range(1, len(data)):
        yield data[:at], data[at:]


class Conversation:
    """A lane between a sender, whom the test plays, and a receiver, who gets `out`."""

    def __init__(self, lane: Lane, *, masked: bool = False) -> None:
        self.lane = lane
        self.masked = masked  # as the lane was made: does its sender mask?
        self.out = bytearray()
        self._read = 0  # how much of `out` the test has spoken of

    def feeds(self, *chunks: bytes) -> Conversation:
        """Let the sender send these chunks, one by one."""
        for chunk in chunks:
            self.out += self.lane.feed(chunk)
            self._flush()
        return self

    def ends(self, code: int, reason: str = "") -> Conversation:
        """Let the gateway end the connection."""
        self.lane.end(code, reason)
        self._flush()
        return self

    def _flush(self) -> None:
        if self.lane.halted and (goodbye := self.lane.flush()):
            self.out += goodbye
            self.out += self.lane.feed(b"")

    def forwards(self, *parts: bytes) -> Conversation:
        """Say that exactly these bytes went out since the test last spoke of it."""
        expected = b"".join(parts)
        assert bytes(self.out[self._read :]) == expected
        self._read = len(self.out)
        return self

    def first_forwards(self, *parts: bytes) -> Conversation:
        """Say that these bytes went out first; the test goes on with what followed them."""
        expected = b"".join(parts)
        assert bytes(self.out[self._read : self._read + len(expected)]) == expected
        self._read += len(expected)
        return self

    def closes(self, code: int, reason: str | None = None) -> Conversation:
        """Say that the gateway's own Close went out, at a frame boundary, and nothing else."""
        whole, rest = split_frames(bytes(self.out))
        assert rest == b"", "a frame was cut in two"
        (said,), rest = split_frames(bytes(self.out[self._read :]))
        assert rest == b""
        assert said == whole[-1]
        assert said.first == frames.FIN | frames.CLOSE
        assert said.masked == self.masked
        assert said.code == code
        assert reason is None or said.reason == reason
        self._read = len(self.out)
        assert self.lane.finished
        return self

    def hears(self, code: int, reason: str = "") -> Conversation:
        """Say that the sender's own Close was recognised."""
        assert self.lane.close == (code, reason)
        assert self.lane.over
        return self

    def violates(self, what: str) -> Conversation:
        """Say that the sender was caught breaking the protocol."""
        assert self.lane.violation is not None
        assert what in self.lane.violation.what
        assert self.lane.over
        return self

    def goes_on(self) -> Conversation:
        """Say that the lane is neither over nor finished."""
        assert not self.lane.over
        assert not self.lane.halted
        assert not self.lane.finished
        return self


def talk(lane: Lane, *, masked: bool = False) -> Conversation:
    """Begin a conversation; `masked` as the lane was made."""
    return Conversation(lane, masked=masked)


def outcome(lane: Lane, chunks: Iterable[bytes]) -> tuple[bytes, str, tuple[int, str] | None]:
    """Feed chunks; returns what passed, what was violated, and the Close that was heard."""
    passed = b"".join(bytes(lane.feed(chunk)) for chunk in chunks)
    what = "" if lane.violation is None else f"{int(lane.violation.code)} {lane.violation.what}"
    heard = None if lane.close is None else (lane.close.code, lane.close.reason)
    return passed, what, heard
