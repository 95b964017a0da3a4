"""The directory at the end of a zip: it is found, and it must match the end record.

`test_archive` holds what comes of it for whole zips, cut and changed at every octet.
"""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from trio_gw.config.node_builder import IncompleteError
from trio_gw.errors import UnusableError
from trio_gw.feed import zip_directory
from trio_gw.feed.zip_directory import CentralDirectory, ZipReader


def packed(entries: int = 2, comment: bytes = b"") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as writer:
        for number in range(entries):
            writer.writestr(f"file{number}", b"x" * number)
        writer.comment = comment
    return target.getvalue()


def opened(data: bytes) -> ZipReader:
    return ZipReader(io.BytesIO(data), "apis/x.zip")


def listed(data: bytes) -> list[zipfile.ZipInfo]:
    found = opened(data)
    return found.infos(found.directory())


def refused(data: bytes) -> str:
    with pytest.raises(UnusableError) as caught:
        listed(data)
    assert not isinstance(caught.value, IncompleteError)
    (problem,) = caught.value.problems
    assert problem.file == "apis/x.zip"
    assert problem.hint
    return problem.what


def end_of(data: bytes, **changed: int) -> bytes:
    """Change fields of the end record: disk, start, here, entries, size, offset, comment."""
    at = data.rfind(b"PK\5\6")
    names = ("disk", "start", "here", "entries", "size", "offset", "comment")
    fields = dict(zip(names, struct.unpack_from("<4H2IH", data, at + 4), strict=True)) | changed
    return data[: at + 4] + struct.pack("<4H2IH", *fields.values()) + data[at + 22 :]


@pytest.mark.parametrize("entries", [0, 1, 300])
@pytest.mark.parametrize("comment", [b"", b"x" * 65535], ids=["", "comment"])
def test_it_is_found_and_read(entries: int, comment: bytes) -> None:
    data = packed(entries, comment)
    found = opened(data)
    directory = found.directory()
    assert directory.entries == entries
    assert directory.offset + directory.size == data.rfind(b"PK\5\6")
    assert [info.filename for info in found.infos(directory)] == [
        f"file{number}" for number in range(entries)
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"entries": 3, "here": 3}, "directory is damaged"),
        ({"entries": 1, "here": 1}, "the size of its directory does not match"),
        ({"here": 1}, "one part of several"),
        ({"disk": 1}, "one part of several"),
        ({"start": 1}, "one part of several"),
        ({"size": 1}, "does not match its end record"),
        ({"offset": 1}, "does not match its end record"),
        ({"comment": 1}, "bytes after the end record"),
        ({"entries": 10_001, "here": 10_001}, "10,001 entries, more than 10,000"),
    ],
)
def test_an_end_that_lies(changed: dict[str, int], words: str) -> None:
    assert words in refused(end_of(packed(), **changed))


def test_bytes_behind_the_end() -> None:
    assert "bytes after the end record" in refused(packed() + b"x")


def test_bytes_before_the_entries_are_not_skipped() -> None:
    """What other readers would take for a zip behind a program, this one does not."""
    assert "the first bytes are wrong" in refused(b"#!/bin/sh\n" + packed())


def test_a_file_that_is_too_large_is_not_looked_at() -> None:
    class Large(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return zip_directory.FILE_BYTES + 1 if whence == 2 else super().seek(offset, whence)

        def read(self, _: int | None = -1) -> bytes:
            raise AssertionError("it was read")

    with pytest.raises(UnusableError, match="more than 128 MiB"):
        ZipReader(Large(), "apis/x.zip").directory()


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"P", b"PK", packed()[:-1], packed()[:40]])
def test_what_breaks_off_may_still_be_on_its_way(data: bytes) -> None:
    with pytest.raises(IncompleteError):
        opened(data).directory()


def test_a_file_that_shrinks_is_incomplete() -> None:
    found = opened(packed())
    with pytest.raises(IncompleteError):
        found.read(0, 1 << 20)


def test_names_in_problems_are_printable_and_short() -> None:
    problem = opened(packed()).problem("what\n", "hint", "a\x1b" + "b" * 500)
    assert str(problem).isprintable()
    assert len(problem.file) < 300


def test_a_directory_is_a_value() -> None:
    assert opened(packed(0)).directory() == CentralDirectory(0, 0, 0)
