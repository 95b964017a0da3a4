"""The file of the state: cut and damaged at every octet."""

from __future__ import annotations

import zlib

import pytest

from trio_gw.config.entitlements import (
    BlockRow,
    Change,
    KeyManagerRow,
    RevokedRow,
    Row,
    SubscriptionRow,
)
from trio_gw.control_plane import state_file
from trio_gw.control_plane.state import Artifact, StateChange
from trio_gw.control_plane.state_file import PREFIX_OCTETS, Prefix, decode, encode

ROWS: tuple[Row, ...] = (
    SubscriptionRow(1, "api", "app", "Gold"),
    KeyManagerRow("Resident", "https://issuer", claim_mappings={"a": "b"}),
    BlockRow("address", "10.0.0.1-10.0.0.9", 7, exclusive=True),
)
CHANGES = [
    StateChange(Change(ROWS)),
    StateChange(Change(removed=(RevokedRow("token", 5),))),
    StateChange(artifacts={"a": (Artifact("a", "1", "f" * 64, (("Default", "localhost"),)),)}),
    StateChange(artifacts={"b": ()}, pulled_at=2.5),
]
ENCODED = [b"".join(encode(change)) for change in CHANGES]
DATA = b"".join(ENCODED)
ENDS = [sum(map(len, ENCODED[: number + 1])) for number in range(len(ENCODED))]


def test_what_is_written_is_read() -> None:
    assert decode(DATA) == (CHANGES, len(DATA), False)


def test_a_file_that_is_cut_anywhere_gives_what_is_whole() -> None:
    for length in range(len(DATA)):
        whole = [end for end in ENDS if end <= length]
        expected = CHANGES[: len(whole)], max(whole, default=0), False
        assert decode(DATA[:length]) == expected


@pytest.mark.parametrize("damage", [0xFF, 0x01, 0x80])
def test_a_damaged_octet_costs_one_change(damage: int) -> None:
    for place in range(len(DATA)):
        octets = bytearray(DATA)
        octets[place] ^= damage
        hit = next(number for number, end in enumerate(ENDS) if place < end)
        left = CHANGES[:hit] + CHANGES[hit + 1 :]
        last = hit == len(CHANGES) - 1
        end = ENDS[hit - 1] if last else len(DATA)
        assert decode(bytes(octets)) == (left, end, not last)


def test_zeros_are_no_records() -> None:
    # A file system may have set the length of a file, and not its content, at a power failure.
    assert decode(DATA + bytes(4096)) == (CHANGES, len(DATA), False)
    assert decode(bytes(4096)) == ([], 0, False)


def test_rows_of_another_version_are_left_out() -> None:
    changed = state_file._encoder.encode({"rows": {"put": [{"type": "unknown"}]}})
    head = state_file._HEAD.pack(state_file._MARK, len(changed))
    checksum = state_file._CHECKSUM.pack(zlib.crc32(changed, zlib.crc32(head)))
    assert decode(head + checksum + changed + ENCODED[0]) == (
        CHANGES[:1],
        len(head + checksum + changed + ENCODED[0]),
        True,
    )


def test_the_prefix() -> None:
    prefix = Prefix(state_file.new_identity(), bytes(16), 5, PREFIX_OCTETS + 9, b"s" * 16)
    data = state_file.encode_prefix(prefix)
    assert len(data) == PREFIX_OCTETS
    assert state_file.decode_prefix(data + DATA) == prefix
    for place in range(PREFIX_OCTETS):
        octets = bytearray(data)
        octets[place] ^= 1
        with pytest.raises(ValueError, match=r"damaged|format"):
            state_file.decode_prefix(bytes(octets))
        with pytest.raises(ValueError, match="short"):
            state_file.decode_prefix(data[:place])
