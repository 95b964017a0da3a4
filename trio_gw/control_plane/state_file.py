"""The file of the last known state: a prefix, then records. Pure but for the random identity.

The file begins with the whole state, as records of at most a few hundred rows. Each later change
is a record more, at the end. To make the file short again, a new one replaces it. So there is one
file, and a change never belongs to another state than that before it.

A record has a mark, its length and a checksum. A record that was written only in part, or was
damaged, is left out; the mark shows where the next one begins. The prefix names the file that this
one replaces, and the length of that. A reader that has read all of that goes on after the state,
instead of reading it again.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.control_plane.state import StateChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC = b"trio-gw state 1\n"  # with the version of the format
_PREFIX = struct.Struct(">16s16s16sQQ16s")
_CHECKSUM = struct.Struct(">I")
_HEAD = struct.Struct(">4sI")
_MARK = b"\xf5\x01\xfeR"  # 0xf5 and 0xfe are in no UTF-8 text
PREFIX_OCTETS = _PREFIX.size + _CHECKSUM.size
HEAD_OCTETS = _HEAD.size + _CHECKSUM.size

_decoder = msgspec.msgpack.Decoder(StateChange)
_encoder = msgspec.msgpack.Encoder()


class Prefix(NamedTuple):
    """What the file says of itself.

    `identity` is 16 random octets. `replaces` is that of the file before it, and `replaced_octets`
    the length of that. The state ends at the octet `state_end`. `source` identifies the control
    plane, in 16 octets.
    """

    identity: bytes
    replaces: bytes
    replaced_octets: int
    state_end: int
    source: bytes


class Records(NamedTuple):
    """Changes read from octets. `end` is where the last of them ends.

    `damaged` is true if something in front of `end` is no record. What follows `end` is incomplete
    or damaged.
    """

    changes: list[StateChange]
    end: int
    damaged: bool


def new_identity() -> bytes:
    """Return the identity of a new file."""
    return secrets.token_bytes(16)


def encode_prefix(prefix: Prefix) -> bytes:
    """Encode a prefix, in `PREFIX_OCTETS` octets."""
    data = _PREFIX.pack(_MAGIC, *prefix)
    return data + _CHECKSUM.pack(zlib.crc32(data))


def decode_prefix(data: bytes) -> Prefix:
    """Decode a prefix. Raises ValueError with the fault."""
    if len(data) < PREFIX_OCTETS:
        raise ValueError("it is too short")
    magic, *fields = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("it has another format")
    if _CHECKSUM.unpack_from(data, _PREFIX.size)[0] != zlib.crc32(data[: _PREFIX.size]):
        raise ValueError("its first octets are damaged")
    return Prefix(*fields)


def encode(change: StateChange) -> Iterator[bytes]:
    """Encode a change as records, one after the other."""
    return map(_record, change.parts())


def _record(change: StateChange) -> bytes:
    data = _encoder.encode(change)
    head = _HEAD.pack(_MARK, len(data))
    return b"".join((head, _CHECKSUM.pack(zlib.crc32(data, zlib.crc32(head))), data))


def decode(data: bytes, pause: Callable[[], None] = lambda: None) -> Records:
    """Decode all records of these octets. `pause` is called after each."""
    view = memoryview(data)
    changes: list[StateChange] = []
    offset = end = 0
    damaged = False
    while offset >= 0:
        if (found := _record_at(view, offset)) is None:
            offset = data.find(_MARK, offset + 1)
            continue
        damaged |= offset != end
        change, offset = found
        end = offset
        changes.append(change)
        pause()
    return Records(changes, end, damaged)


def _record_at(view: memoryview, offset: int) -> tuple[StateChange, int] | None:
    """Return the change of the record that begins here, and where it ends; None if none does."""
    start = offset + HEAD_OCTETS
    if len(view) < start:
        return None
    head = view[offset : offset + _HEAD.size]
    mark, length = _HEAD.unpack(head)
    if mark != _MARK or length > len(view) - start:
        return None
    data = view[start : start + length]
    if _CHECKSUM.unpack_from(view, offset + _HEAD.size)[0] != zlib.crc32(data, zlib.crc32(head)):
        return None
    try:
        return _decoder.decode(data), start + length
    except msgspec.MsgspecError:  # a row that this version does not know
        return None
