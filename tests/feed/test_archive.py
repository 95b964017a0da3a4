"""Zipped projects: what is read out of them, and every way in which one is refused."""

from __future__ import annotations

import datetime
import io
import os
import random
import stat
import struct
import tracemalloc
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.examples import examples
from trio_gw.config import project
from trio_gw.config.node_builder import IncompleteError
from trio_gw.errors import UnusableError
from trio_gw.feed import archive, zip_directory
from trio_gw.feed.archive import unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

API = b"""\
data:
  name: Chat
  version: 1.0.0
  context: /chat
  type: WS
  endpointConfig: {production_endpoints: {url: wss://backend.example/chat}}
"""
DEFINITION = b"asyncapi: 2.0.0\nchannels: {/room: {publish: {}}}\n"
FILES = {"api.yaml": API, "Definitions/asyncapi.yaml": DEFINITION}
MEBI = 1 << 20


def packed(files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Pack files as an ordinary tool would."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    return target.getvalue()


class Part(NamedTuple):
    """One entry, byte for byte; what is None is computed honestly."""

    name: bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    mode: int = 0o100644
    size: int | None = None  # as declared in the directory
    packed_size: int | None = None
    crc: int | None = None
    raw: bytes | None = None  # what really lies there
    offset: int | None = None
    extra: bytes = b""
    version: int = 20
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_crc: int | None = None
    local_sizes: tuple[int, int] | None = None
    local_mark: bytes = b"PK\3\4"
    after: bytes = b""


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(data) + deflater.flush()


def written(
    *parts: Part,
    count: int | None = None,
    shift: int = 0,
    longer: int = 0,
    comment: bytes = b"",
    disk: int = 0,
    before_end: bytes = b"",
) -> bytes:
    """Write a zip from its parts, with an end record that may lie."""
    body = b""
    directory = b""
    for part in parts:
        raw = part.raw
        if raw is None:
            raw = deflated(part.data) if part.method == 8 else part.data
        crc = zlib.crc32(part.data) if part.crc is None else part.crc
        size = len(part.data) if part.size is None else part.size
        packed_size = len(raw) if part.packed_size is None else part.packed_size
        offset = len(body) if part.offset is None else part.offset
        local = part.name if part.local_name is None else part.local_name
        here = (packed_size, size) if part.local_sizes is None else part.local_sizes
        body += struct.pack(
            "<4s5H3I2H",
            part.local_mark,
            part.version,
            part.flags if part.local_flags is None else part.local_flags,
            part.method if part.local_method is None else part.local_method,
            0,
            33,
            crc if part.local_crc is None else part.local_crc,
            *here,
            len(local),
            0,
        )
        body += local + raw + part.after
        directory += struct.pack(
            "<4s6H3I5H2I",
            b"PK\1\2",
            (3 << 8) | 20,
            part.version,
            part.flags,
            part.method,
            0,
            33,
            crc,
            packed_size,
            size,
            len(part.name),
            len(part.extra),
            0,
            0,
            0,
            part.mode << 16,
            offset,
        )
        directory += part.name + part.extra
    entries = len(parts) if count is None else count
    end = struct.pack(
        "<4s4H2IH",
        b"PK\5\6",
        disk,
        disk,
        entries,
        entries,
        len(directory) + longer,
        len(body) + shift,
        len(comment),
    )
    return body + directory + before_end + end + comment


def large_end(offset: int, size: int, entries: int, *, at: int | None = None) -> bytes:
    """Make a zip64 end record and its locator, after the directory."""
    where = offset + size if at is None else at
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, offset)
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, where, 1)


def refused(data: bytes) -> UnusableError:
    """Unpack what must be refused, and check what holds for every refusal."""
    with pytest.raises(UnusableError) as caught:
        unpack(data, "apis/Chat.zip")
    assert 1 <= len(caught.value.problems) <= archive.PROBLEMS + 1
    for problem in caught.value.problems:
        assert problem.file.startswith("apis/Chat.zip")
        assert problem.severity == "error"
        assert problem.what
        assert problem.hint
        assert str(problem).isprintable()
        assert len(str(problem)) < 1000
    return caught.value


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["", "Chat-1.0.0/", "a/b/c/d/", "/".join("x" * 40) + "/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_project_is_found_at_any_depth(top: str, method: int) -> None:
    files = {f"{top}{name}": data for name, data in FILES.items()}
    found = unpack(packed(files, method=method), "Chat.zip")
    assert found == files
    assert project.load(found, "apis/Chat.zip").problems == ()


def test_only_wanted_files_are_read() -> None:
    more = {
        "README.md": b"x",
        "Docs/a.md": b"x" * 3 * MEBI,
        "inner.zip": packed(FILES),
        "__MACOSX/._api.yaml": b"x",
        "Definitions/.asyncapi.yaml": b"x",
        "Endpoint-certificates/interceptors/a.crt": b"x",
    }
    assert unpack(packed({**more, **FILES}, method=zipfile.ZIP_STORED), "Chat.zip") == FILES


def test_certificates_and_deployments_are_read() -> None:
    more = {
        "deployment_environments.yaml": b"a",
        "Endpoint-certificates/b.crt": b"b",
        "Endpoint-certificates/endpoint_certificates.yaml": b"c",
        "Client-certificates/d.pem": b"d",
        "Client-certificates/client_certificates.json": b"e",
    }
    assert unpack(packed(FILES | more), "Chat.zip") == FILES | more


def test_a_zip_in_a_zip_is_not_looked_into() -> None:
    assert unpack(packed({"Chat.zip": packed(FILES)}), "Chat.zip") == {}


@pytest.mark.parametrize("source", ["bytes", "bytearray", "memoryview", "text", "path", "file"])
def test_sources(source: str, tmp_path: Path) -> None:
    data = packed(FILES)
    path = tmp_path / "Chat.zip"
    path.write_bytes(data)
    with path.open("rb") as file:
        sources: dict[str, archive.Source] = {
            "bytes": data,
            "bytearray": bytearray(data),
            "memoryview": memoryview(data),
            "text": str(path),
            "path": path,
            "file": file,
        }
        assert unpack(sources[source], "Chat.zip") == FILES
        assert not file.closed
    assert [entry.name for entry in tmp_path.iterdir()] == ["Chat.zip"]


def test_empty_files_and_folders_and_comments() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as writer:
        writer.comment = b"made for a test"
        writer.writestr("Chat/", "")
        writer.writestr("Chat/Definitions/", "")
        writer.writestr("Chat/api.yaml", "")
        writer.writestr(zipfile.ZipInfo("Chat/Definitions/asyncapi.json"), "{}")
    found = unpack(target.getvalue(), "Chat.zip")
    assert found == {"Chat/api.yaml": b"", "Chat/Definitions/asyncapi.json": b"{}"}


def test_an_empty_zip_holds_nothing() -> None:
    assert unpack(packed({}), "Chat.zip") == {}


def test_dots_and_empty_steps_in_a_name_are_left_out() -> None:
    data = written(Part(b"./Chat/./api.yaml", API), Part(b"./Chat//Definitions/asyncapi.yaml"))
    assert list(unpack(data, "z")) == ["Chat/api.yaml", "Chat/Definitions/asyncapi.yaml"]


class OneWay(io.RawIOBase):
    """A file that cannot seek: the sizes are then written behind the data."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        octets = bytes(cast("bytes", data))
        self.written += octets
        return len(octets)


@pytest.mark.parametrize("large", [False, True])
def test_zips_written_to_a_pipe(large: bool) -> None:
    target = OneWay()
    with zipfile.ZipFile(cast("BinaryIO", target), "w", zipfile.ZIP_DEFLATED) as writer:
        for name, data in FILES.items():
            with writer.open(name, "w", force_zip64=large) as file:
                file.write(data)
    assert target.written[6] & 8
    assert unpack(target.written, "Chat.zip") == FILES


def test_zip64_headers_of_small_files() -> None:
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w") as writer,
        writer.open("api.yaml", "w", force_zip64=True) as f,
    ):
        f.write(API)
    assert unpack(target.getvalue(), "Chat.zip") == {"api.yaml": API}


def test_a_zip64_end_of_a_small_zip() -> None:
    plain = written(Part(b"api.yaml", API))
    offset, size = 38 + len(API), 54
    end = large_end(offset, size, 1)
    both = plain[:-22] + end + plain[-22:]
    assert unpack(both, "Chat.zip") == {"api.yaml": API}
    full = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    assert unpack(plain[:-22] + end + full, "Chat.zip") == {"api.yaml": API}


def test_names_in_other_scripts() -> None:
    files = {"caf\u00e9/api.yaml": API, "\u6771\u4eac/x.txt": b""}
    assert unpack(packed(files), "Chat.zip") == {"caf\u00e9/api.yaml": API}
    old = written(Part(b"caf\x82/api.yaml", API))  # code page 437
    assert unpack(old, "Chat.zip") == {"caf\u00e9/api.yaml": API}


def test_bounds_are_inclusive() -> None:
    size = archive.ENTRY_BYTES
    files = {"api.yaml": random.Random(1).randbytes(size)}
    assert len(unpack(packed(files), "Chat.zip")["api.yaml"]) == size
    many = {f"{index}.txt": b"" for index in range(zip_directory.ENTRIES - 1)}
    assert unpack(packed({**many, "api.yaml": API}), "Chat.zip") == {"api.yaml": API}


def test_a_small_file_may_shrink_as_much_as_it_likes() -> None:
    files = {"api.yaml": b" " * archive.RATIO_FROM}
    assert unpack(packed(files), "Chat.zip") == files


# --- what is refused -------------------------------------------------------------------------

GOOD = packed(FILES)
ONE = Part(b"api.yaml", API)
TAIL = len(written(ONE)) - 22
BOMB = deflated(b"\0" * 20 * MEBI)


def central(data: bytes, at: int, value: bytes) -> bytes:
    """Change octets of the first entry of the directory."""
    start = data.index(b"PK\1\2") + at
    return data[:start] + value + data[start + len(value) :]


CORPUS: dict[str, tuple[Callable[[], bytes], str]] = {
    # Not a zip.
    "text": (lambda: b"this is no zip file at all, just text", "is not a zip file"),
    "gzip": (lambda: b"\x1f\x8b\x08" + b"\0" * 50, "is not a zip file"),
    "rar": (lambda: b"Rar!\x1a\x07\x01\0" + b"\0" * 50, "is not a zip file"),
    "prefix": (lambda: b"#!/bin/sh\n" + GOOD, "is not a zip file"),
    # Its end.
    "trailing octet": (lambda: GOOD + b"\0", "bytes after the end record"),
    "trailing text": (lambda: GOOD + b"more", "bytes after the end record"),
    "two zips": (lambda: GOOD + GOOD, "position or size of its directory"),
    "end in the comment": (
        lambda: written(ONE, comment=b"x" + packed({})),
        "position or size of its directory",
    ),
    "comment cut": (lambda: written(ONE, comment=b"hello")[:-2], "bytes after the end record"),
    "several parts": (lambda: written(ONE, disk=1), "one part of several"),
    "directory elsewhere": (lambda: written(ONE, shift=1), "position or size of its directory"),
    "directory outside": (lambda: written(ONE, shift=2**31), "position or size of its directory"),
    "directory longer": (lambda: written(ONE, longer=9), "position or size of its directory"),
    "bytes before the end": (
        lambda: written(ONE, before_end=b"x"),
        "position or size of its directory",
    ),
    "fewer entries": (lambda: written(ONE, count=2), "its directory is damaged"),
    "more entries": (
        lambda: written(ONE, ONE, count=1),
        "the size of its directory does not match",
    ),
    "no entries": (lambda: written(ONE, count=0), "the size of its directory does not match"),
    "directory mark": (lambda: central(written(ONE), 0, b"PK\1\3"), "directory is damaged"),
    "directory name length": (lambda: central(written(ONE), 28, b"\xff\xff"), "does not match"),
    "too many entries": (
        lambda: packed({f"{index}.txt": b"" for index in range(zip_directory.ENTRIES + 1)}),
        "contains 10,001 entries",
    ),
    "directory too long": (
        lambda: written(*(Part(b"x" * 60_000 + b"%d" % at) for at in range(80))),
        "size of its directory does not match",
    ),
    "file too long": (lambda: GOOD + b"\0" * zip_directory.FILE_BYTES, "more than 128 MiB"),
    "zip64 end moved": (
        lambda: written(ONE, before_end=large_end(TAIL - 54, 54, 1, at=7)),
        "zip64 end record is in the wrong",
    ),
    "zip64 end missing": (
        lambda: written(ONE, before_end=b"x" * 56 + large_end(0, 0, 0)[56:]),
        "zip64 end record is in the wrong",
    ),
    "zip64 end differs": (
        lambda: written(ONE, before_end=large_end(0, TAIL, 1)),
        "two end records do not agree",
    ),
    "zip64 many entries": (
        lambda: (
            written(ONE, before_end=large_end(TAIL - 54, 54, 2**40))[:-22]
            + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, 54, TAIL - 54, 0)
        ),
        "entries, more than",
    ),
    "extra field cut": (
        lambda: written(Part(b"api.yaml", API, extra=b"\1\0\x20\0")),
        "directory is damaged",
    ),
    "version of the future": (lambda: written(Part(b"a", version=99)), "directory is damaged"),
    "name not UTF-8": (lambda: written(Part(b"\xff", flags=0x800)), "directory is damaged"),
    # Names.
    "absolute": (lambda: written(Part(b"/api.yaml", API)), "an absolute path"),
    "absolute folder": (lambda: written(Part(b"/etc/")), "an absolute path"),
    "drive": (lambda: written(Part(b"C:/api.yaml", API)), "an absolute path"),
    "drive relative": (lambda: written(Part(b"c:api.yaml", API)), "an absolute path"),
    "up": (lambda: written(Part(b"../api.yaml", API)), "leaves the zip"),
    "up and down": (lambda: written(Part(b"a/../b/api.yaml")), "leaves the zip"),
    "up at the end": (lambda: written(Part(b"a/..")), "leaves the zip"),
    "backslash": (lambda: written(Part(b"Chat\\api.yaml")), "a backslash"),
    "backslash up": (lambda: written(Part(b"..\\..\\x")), "a backslash"),
    "share": (lambda: written(Part(b"\\\\host\\share\\x")), "a backslash"),
    "NUL": (lambda: written(Part(b"api.yaml\0.png", API)), "a NUL character"),
    "no name": (lambda: written(Part(b"")), "a file without a name"),
    "a dot": (lambda: written(Part(b".")), "a file without a name"),
    # Kinds.
    "link": (lambda: written(Part(b"api.yaml", b"/etc/passwd", mode=0o120777)), "symbolic link"),
    "link unwanted": (lambda: written(ONE, Part(b"l", b"..", mode=0o120777)), "symbolic link"),
    "pipe": (lambda: written(Part(b"p", mode=stat.S_IFIFO | 0o644)), "a device or a pipe"),
    "device": (lambda: written(Part(b"d", mode=stat.S_IFCHR | 0o644)), "a device or a pipe"),
    "encrypted": (lambda: written(Part(b"api.yaml", b"x" * 20, flags=1)), "is encrypted"),
    "strongly encrypted": (lambda: written(Part(b"x", flags=0x41)), "is encrypted"),
    "directory encrypted": (lambda: written(Part(b"x", flags=0x2000)), "is encrypted"),
    "bzip2": (
        lambda: packed(FILES, method=zipfile.ZIP_BZIP2),
        "an unsupported compression method (number 12)",
    ),
    "lzma": (lambda: packed(FILES, method=zipfile.ZIP_LZMA), "(number 14)"),
    "deflate64": (lambda: written(Part(b"x", method=9, raw=b"\3\0")), "(number 9)"),
    # Twice.
    "twice": (lambda: written(ONE, ONE._replace(data=b"other")), "is in the zip twice"),
    "twice, one letter": (lambda: written(Part(b"a"), Part(b"a")), "is in the zip twice"),
    "twice by dots": (lambda: written(ONE, Part(b"./api.yaml")), "is in the zip twice"),
    "twice by case": (
        lambda: written(ONE, Part(b"API.yaml")),
        "differs from `api.yaml` only in upper and lower case",
    ),
    # Sizes.
    "ratio": (
        lambda: written(Part(b"x.bin", b"\0" * 2 * MEBI, method=8)),
        "times its size, more than 200",
    ),
    "ratio of nothing": (
        lambda: written(Part(b"x.bin", raw=b"", size=3 * MEBI, packed_size=0)),
        "times its size, more than 200",
    ),
    "one file": (
        lambda: written(Part(b"api.yaml", b"\0" * (archive.ENTRY_BYTES + 1))),
        "has 2,097,153 bytes, more than 2 MiB",
    ),
    "wanted files": (
        lambda: written(
            *(Part(b"%d/api.yaml" % at, b"x" * archive.ENTRY_BYTES) for at in range(9))
        ),
        "contains more than 16 MiB",
    ),
    "all files": (
        lambda: written(
            *(Part(b"%d.bin" % at, raw=b"\0" * (MEBI // 16), size=12 * MEBI) for at in range(11))
        ),
        "unpacks to 138,412,032 bytes, more than 128 MiB",
    ),
    # Headers and data.
    "other name before": (
        lambda: written(ONE._replace(local_name=b"APi.yaml")),
        "do not agree",
    ),
    "other method before": (lambda: written(ONE._replace(local_method=8)), "do not agree"),
    "encrypted before": (lambda: written(ONE._replace(local_flags=1)), "do not agree"),
    "other checksum before": (lambda: written(ONE._replace(local_crc=1)), "do not agree"),
    "other sizes before": (lambda: written(ONE._replace(local_sizes=(1, 1))), "do not agree"),
    "header mark": (lambda: written(ONE, Part(b"b", local_mark=b"PK\3\5")), "header is missing"),
    "header elsewhere": (lambda: written(ONE._replace(offset=2**31)), "belong to no entry"),
    "header in the directory": (
        lambda: written(Part(b"a", flags=8, after=b"x" * 10), Part(b"b", offset=40)),
        "header is missing",
    ),
    "hole": (lambda: written(ONE._replace(after=b"hidden"), Part(b"b")), "6 bytes that belong"),
    "hole at the end": (lambda: written(ONE._replace(after=b"x" * 9)), "9 bytes that belong"),
    "hole behind a descriptor": (
        lambda: written(Part(b"a", flags=8, after=b"x" * 25)),
        "25 bytes that belong",
    ),
    "same data twice": (lambda: written(ONE, Part(b"api.yaml", API, offset=0)), "twice"),
    "overlap": (
        lambda: written(
            Part(b"a.bin", b"x" * 100, packed_size=100 + 31, size=100 + 31),
            Part(b"b", b""),
        ),
        "overlaps the entry",
    ),
    "shared data": (
        lambda: written(Part(b"a.bin", b"x"), Part(b"b.bin", b"x", offset=0)),
        "overlaps the entry",
    ),
    "quine": (lambda: written(ONE._replace(packed_size=9999)), "overlaps the directory"),
    "checksum": (lambda: written(ONE._replace(crc=1)), "checksum is wrong"),
    "checksum of deflated": (lambda: written(ONE._replace(crc=1, method=8)), "checksum is wrong"),
    "stored shorter": (lambda: written(ONE._replace(size=3)), "its sizes do not match"),
    "stored longer": (lambda: written(ONE._replace(size=300)), "its sizes do not match"),
    "deflated longer": (
        lambda: written(ONE._replace(method=8, size=len(API) + 1)),
        "does not unpack to the",
    ),
    "deflated shorter": (
        lambda: written(ONE._replace(method=8, size=3, crc=zlib.crc32(API[:3]))),
        "does not unpack to the 3 bytes",
    ),
    "deflated bomb": (
        lambda: written(Part(b"api.yaml", method=8, raw=BOMB, size=100, crc=0)),
        "does not unpack to the 100 bytes",
    ),
    "deflated and more": (
        lambda: written(ONE._replace(method=8, raw=deflated(API) + b"more")),
        "does not unpack to the",
    ),
    "deflated cut": (
        lambda: written(ONE._replace(method=8, raw=deflated(API)[:-5])),
        "does not unpack to the",
    ),
    "deflated nothing": (lambda: written(Part(b"api.yaml", method=8, raw=b"")), "does not unpack"),
    "deflated noise": (
        lambda: written(ONE._replace(method=8, raw=b"\xff" * 30)),
        "damaged and cannot be unpacked",
    ),
    "zip64 size": (
        lambda: written(
            ONE._replace(size=2**32 - 1, extra=struct.pack("<2HQ", 1, 8, 2**60)),
        ),
        "times its size, more than 200",
    ),
    "zip64 offset": (
        lambda: written(
            ONE._replace(offset=2**32 - 1, extra=struct.pack("<2HQ", 1, 8, 2**62)),
        ),
        "belong to no entry",
    ),
}


@pytest.mark.parametrize("name", list(CORPUS))
def test_refused(name: str) -> None:
    make, words = CORPUS[name]
    error = refused(make())
    assert any(words in problem.what for problem in error.problems), error
    assert not isinstance(error, IncompleteError)


def test_an_entry_is_named_in_the_place() -> None:
    (problem,) = refused(written(ONE, Part(b"Docs/../x"))).problems
    assert problem.file == "apis/Chat.zip/Docs/../x"
    (problem,) = refused(written(Part(b"a\n\x1b[2J", mode=0o120777))).problems
    assert problem.file == "apis/Chat.zip/a\\n\\x1b[2J"


def test_every_bad_entry_is_told_at_once() -> None:
    parts = [Part(b"/a"), Part(b"b/../c"), Part(b"d\\e"), Part(b"f", flags=1)]
    assert len(refused(written(*parts)).problems) == 4


def test_a_zip_full_of_bad_entries_is_told_in_a_few_lines() -> None:
    error = refused(written(*(Part(b"../%d" % at) for at in range(5000))))
    assert len(error.problems) == archive.PROBLEMS + 1
    assert "4980 more" in error.problems[-1].what


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\0" * 5000, "is empty"),
        (b"P", "after the first bytes"),
        (b"PK\3", "after the first bytes"),
        (b"PK\3\4", "the directory at the end is missing"),
        (GOOD[:100], "the directory at the end is missing"),
        (GOOD[:-30], "the directory at the end is missing"),
        (GOOD[:-1], "the directory at the end is missing"),
        (GOOD + b"\0" * 70_000, "the directory at the end is missing"),
    ],
)
def test_a_zip_that_may_still_be_on_its_way(data: bytes, words: str) -> None:
    error = refused(data)
    assert isinstance(error, IncompleteError)
    assert words in error.problems[0].what


def test_a_zip_cut_anywhere_is_incomplete() -> None:
    for end in range(len(GOOD)):
        assert isinstance(refused(GOOD[:end]), IncompleteError)


class Shrinking(io.BytesIO):
    """A file that is cut short while it is read."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        return data if self.tell() >= len(GOOD) - 22 else data[:-1]


def test_a_file_that_is_cut_while_it_is_read_is_incomplete() -> None:
    with pytest.raises(IncompleteError) as caught:
        unpack(Shrinking(GOOD), "Chat.zip")
    assert "became shorter while it was read" in caught.value.problems[0].what


# --- from a path -----------------------------------------------------------------------------


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Chat.zip")
    with pytest.raises(UnusableError, match="not a regular file"):
        unpack(tmp_path / "Chat.zip", "apis/Chat.zip")


def test_a_missing_file_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "Chat.zip", "apis/Chat.zip")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "Chat.zip"
    with path.open("wb") as file:
        file.write(GOOD)
        file.truncate(1 << 40)  # sparse
    tracemalloc.start()
    try:
        with pytest.raises(UnusableError, match="more than 128 MiB"):
            unpack(path, "Chat.zip")
        assert tracemalloc.get_traced_memory()[1] < MEBI
    finally:
        tracemalloc.stop()


def test_what_is_not_wanted_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "Chat.zip"
    noise = random.Random(2).randbytes(MEBI) * 30
    path.write_bytes(packed({"video.bin": noise, **FILES}, method=zipfile.ZIP_STORED))
    tracemalloc.start()
    try:
        assert unpack(path, "Chat.zip") == FILES
        assert tracemalloc.get_traced_memory()[1] < MEBI
    finally:
        tracemalloc.stop()


def test_a_bomb_is_left_after_its_first_octets_too_many() -> None:
    data = written(Part(b"api.yaml", method=8, raw=deflated(b"\0" * 20 * MEBI), size=100, crc=0))
    tracemalloc.start()
    try:
        with pytest.raises(UnusableError):
            unpack(data, "Chat.zip")
        assert tracemalloc.get_traced_memory()[1] < 2 * MEBI
    finally:
        tracemalloc.stop()


# --- anything at all -------------------------------------------------------------------------

QUICKLY = datetime.timedelta(seconds=5)
SEEDS = [
    GOOD,
    packed(FILES, method=zipfile.ZIP_STORED),
    written(Part(b"a/"), Part(b"a/api.yaml", API, method=8), ONE, comment=b"hello"),
    written(ONE, before_end=large_end(TAIL - 54, 54, 1)),
]


def borne(data: bytes) -> None:
    """Unpack anything: wanted files within the bounds, or problems; nothing else."""
    try:
        found = unpack(data, "apis/Chat.zip")
    except UnusableError:
        refused(data)  # once more, for what holds for every refusal
    else:
        assert all(project.wanted(name) for name in found)
        assert sum(map(len, found.values())) <= archive.WANTED_BYTES


@given(st.binary(max_size=300))
@example(b"PK\5\6" + b"\0" * 18)
@example(b"PK\3\4" + b"PK\5\6" * 30)
@settings(deadline=QUICKLY)
def test_any_bytes_are_borne(data: bytes) -> None:
    for head in (b"", b"PK\3\4", b"PK\5\6"):
        borne(head + data)


EDIT = st.tuples(
    st.integers(0, 900),
    st.integers(0, 4),
    st.binary(max_size=4)
    | st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"PK\1\2", b"PK\3\4", b"PK\5\6"]),
)


@given(st.sampled_from(SEEDS), st.lists(EDIT, min_size=1, max_size=8), st.booleans())
@settings(deadline=QUICKLY, max_examples=examples(1500))
def test_any_edits_of_a_valid_zip_are_borne(
    data: bytes, edits: list[tuple[int, int, bytes]], in_place: bool
) -> None:
    for start, length, piece in edits:
        at = start % (len(data) + 1)
        data = data[:at] + piece + data[at + (len(piece) if in_place else length) :]
    borne(data)


def test_every_single_octet_changed_is_borne() -> None:
    for data in SEEDS:
        for at in range(len(data)):
            for value in (0, 0xFF, data[at] ^ 1, data[at] ^ 0x80):
                borne(data[:at] + bytes([value]) + data[at + 1 :])


NAMES = st.text(st.sampled_from("aA./\\:\0é"), max_size=6).map(str.encode)
PARTS = st.fixed_dictionaries(
    {
        "name": NAMES | st.just(b"api.yaml"),
        "data": st.binary(max_size=20),
        "method": st.sampled_from([0, 8, 12]),
        "flags": st.sampled_from([0, 1, 8, 0x800]),
        "mode": st.sampled_from([0, 0o100644, 0o120777, 0o40755]),
        "size": st.none() | st.integers(0, 2**32 - 1),
        "packed_size": st.none() | st.integers(0, 2**32 - 1),
        "offset": st.none() | st.integers(0, 200),
        "extra": st.just(b"") | st.binary(max_size=12),
        "after": st.binary(max_size=2),
    }
).map(lambda fields: Part(**cast("dict[str, Any]", fields)))


@given(st.lists(PARTS, max_size=4), st.none() | st.integers(0, 5), st.integers(-3, 3))
@settings(deadline=QUICKLY, max_examples=examples(500))
def test_any_entries_are_borne(parts: list[Part], count: int | None, shift: int) -> None:
    borne(written(*parts, count=count))
    borne(written(*parts, count=count, shift=shift if parts else 0))


@given(st.dictionaries(st.sampled_from(["api.yaml", "b/api.yaml", "x"]), st.binary(max_size=99)))
@settings(deadline=QUICKLY)
def test_what_was_packed_comes_out(files: dict[str, bytes]) -> None:
    expected = {name: data for name, data in files.items() if name != "x"}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert unpack(packed(files, method=method), "Chat.zip") == expected
