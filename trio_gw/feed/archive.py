"""A zip file as an API project: its wanted files, in memory, or the reasons to refuse it.

Called by the store for `*.zip` in the watched folder, and for uploads. Blocks; call it in a
worker thread. Nothing is ever written to disk, so nothing can be left behind.

A zip says everything twice, in the header before each file and in the directory at its end, and
readers differ in whom they believe. Here both must agree, entries must not share bytes, and what
is unpacked is bounded by what was promised, never trusted to keep to it. Names that a careless
reader would write outside of its folder are refused, though nothing here writes.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO

from trio_gw.config.project import wanted
from trio_gw.errors import Problem, UnusableError
from trio_gw.feed.zipdirectory import LESS, Zip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.feed.zipdirectory import Directory

ENTRY_BYTES = 2 << 20  # of one wanted file, unpacked
WANTED_BYTES = 16 << 20  # of all wanted files, unpacked
TOTAL_BYTES = 128 << 20  # of all entries, as they declare; most is never unpacked
RATIO = 200  # Text rarely shrinks more than twentyfold; deflate can do a thousandfold.
RATIO_FROM = 1 << 20  # A small file may be all blanks and harm nobody.
PROBLEMS = 20  # Nobody reads more of one zip.

_CHUNK = 1 << 16
_LOCAL = struct.Struct("<4s5H3I2H")
_FLAG_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_FLAG_DESCRIPTOR = 0x0008
_FLAG_UTF8 = 0x0800

_DRIVE = re.compile(r"[A-Za-z]:")

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO


def unpack(source: Source, name: str) -> dict[str, bytes]:
    """Read the wanted files of a zipped project by relative POSIX path.

    `source` is the zip itself, its path, or a file open for reading that can seek; `name`
    stands for it in problems. Of the zip at most what is wanted is held in memory.

    Raises `UnusableError` for whatever is wrong with the zip: `IncompleteError` when it may
    still be on its way. Raises `OSError` only if the file system fails. spec: project-format §1.
    """
    with _opened(source, name) as file:
        return _Archive(file, name).unpack()


@contextlib.contextmanager
def _opened(source: Source, name: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        # Without O_NONBLOCK a named pipe would hold us up until somebody writes to it.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with open(os.open(source, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                what = "is not a regular file, so it is not read"
                raise UnusableError([Problem(name, 0, 0, what, "replace it")])
            yield file
    else:
        yield source


class _Archive:
    """One call of `unpack`."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._zip = Zip(file, name)
        self._problems: list[Problem] = []

    def unpack(self) -> dict[str, bytes]:
        directory = self._zip.directory()
        infos = self._zip.infos(directory)
        entries = [(info, self._path(info)) for info in infos]
        for info in infos:
            self._check(info)
        self._check_together(entries)
        self._settle()
        starts = self._starts(infos, directory)
        return {
            path: self._data(info, path, starts[info.header_offset])
            for info, path in entries
            if wanted(path)
        }

    def _note(self, path: str, what: str, hint: str) -> None:
        self._problems.append(self._zip.problem(what, hint, path))

    def _settle(self) -> None:
        """Raise what has been noted."""
        found = list(dict.fromkeys(self._problems))
        if len(found) > PROBLEMS:
            what = f"{len(found) - PROBLEMS} more problems are not shown"
            found[PROBLEMS:] = [self._zip.problem(what, "fix those above first")]
        if found:
            raise UnusableError(found)

    def _path(self, info: zipfile.ZipInfo) -> str:
        """Give the plain path of a file; empty for a folder."""
        name = info.orig_filename
        parts = name.split("/")
        hint = "rename the file, and pack the project again"
        if "\0" in name:
            self._note(name, "the name holds a NUL character", hint)
        if "\\" in name:
            hint = "pack it with a tool that writes `/` between folders"
            self._note(name, "the name holds a backslash", hint)
        elif name.startswith("/") or _DRIVE.match(name):
            hint = "pack the project from its own folder, so that names are relative"
            self._note(name, "the name is an absolute path", hint)
        elif ".." in parts:
            hint = "pack the project from its own folder, so that names stay inside"
            self._note(name, "the name leads out of the zip by `..`", hint)
        path = "/".join(part for part in parts if part not in ("", "."))
        if name.endswith("/"):
            return ""
        if not path:
            self._note(name, "holds a file without a name", hint)
        return path

    def _check(self, info: zipfile.ZipInfo) -> None:
        """Note what an entry must not be."""
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind == stat.S_IFLNK:
            what = "is a symbolic link, and links are not followed"
            self._note(info.filename, what, "pack the file itself instead of the link")
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            self._note(info.filename, "is a device or a pipe, not a file", "leave it out")
        if info.flag_bits & _FLAG_ENCRYPTED:
            self._note(info.filename, "is encrypted", "pack the project without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            what = f"is compressed by a method that is not read (number {info.compress_type})"
            self._note(info.filename, what, "pack the project with the method `deflate`")

    def _check_together(self, entries: list[tuple[zipfile.ZipInfo, str]]) -> None:
        """Note names that stand twice, and sizes beyond the bounds, as declared."""
        seen: dict[str, str] = {}
        total = room = 0
        for info, path in entries:
            total += info.file_size
            if not path:
                continue
            first = seen.get(path.casefold())
            if first is not None:
                what = "stands in the zip twice"
                if first != path:
                    what = f"differs from `{first[:80]}` in upper and lower case only"
                self._note(path, what, "remove one of the two")
            seen.setdefault(path.casefold(), path)
            packed = max(info.compress_size, 1)
            if info.file_size > RATIO_FROM and info.file_size > RATIO * packed:
                what = f"unpacks to {info.file_size // packed:,} times its size, more than {RATIO}"
                self._note(path, what, "leave it out: no file of a project does that")
            elif wanted(path):
                room += info.file_size
                if info.file_size > ENTRY_BYTES:
                    what = f"has {info.file_size:,} bytes, more than {ENTRY_BYTES >> 20} MiB"
                    self._note(path, what, "shorten the file")
        if room > WANTED_BYTES:
            what = f"holds more than {WANTED_BYTES >> 20} MiB of definitions and certificates"
            self._note("", what, LESS)
        if total > TOTAL_BYTES:
            self._note("", f"unpacks to {total:,} bytes, more than {TOTAL_BYTES >> 20} MiB", LESS)

    def _starts(self, infos: list[zipfile.ZipInfo], directory: Directory) -> dict[int, int]:
        """Tell where the data of each entry begins, by the offset of its header.

        Entries must follow one another from the beginning of the file to the directory. What
        lies between could be another file to another reader, and what overlaps is a bomb.
        """
        starts: dict[int, int] = {}
        end = slack = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            at = info.header_offset
            if at < end:
                what = "it shares bytes with the entry before it"
                self._zip.refuse(what, path=info.filename)
            self._check_gap(at - end, slack)
            if at + _LOCAL.size > directory.offset:
                self._zip.refuse("its header is missing", path=info.filename)
            starts[at], slack = self._local(info)
            end = starts[at] + info.compress_size
            if end > directory.offset:
                self._zip.refuse("it runs into the directory", path=info.filename)
        self._check_gap(directory.offset - end, slack)
        return starts

    def _check_gap(self, gap: int, slack: int) -> None:
        if gap > slack:
            self._zip.refuse(f"holds {gap:,} bytes that belong to no entry")

    def _local(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        """Compare the header before the data with the directory.

        Tells where the data begins, and how long a descriptor of its sizes may be behind it.
        """
        header = self._zip.read(info.header_offset, _LOCAL.size)
        mark, _, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack(header)
        if mark != b"PK\3\4":
            self._zip.refuse("its header is missing", path=info.filename)
        start = info.header_offset + _LOCAL.size
        encoding = "utf-8" if flags & _FLAG_UTF8 else "cp437"
        same = self._zip.read(start, name).decode(encoding, "replace") == info.orig_filename
        same &= method == info.compress_type
        same &= not (flags ^ info.flag_bits) & (_FLAG_ENCRYPTED | _FLAG_UTF8)
        # Zero: it stands behind the data. The highest number: it stands in the extra field.
        described = bool((flags | info.flag_bits) & _FLAG_DESCRIPTOR)
        behind = (0,) if described else ()
        same &= crc in (info.CRC, *behind)
        same &= packed in (info.compress_size, 0xFFFFFFFF, *behind)
        same &= size in (info.file_size, 0xFFFFFFFF, *behind)
        if not same:
            what = "its header and the directory say different things"
            self._zip.refuse(what, path=info.filename)
        return start + int(name) + int(extra), 24 if described else 0

    def _data(self, info: zipfile.ZipInfo, path: str, start: int) -> bytes:
        """Unpack one entry: exactly as much as it declares, or not at all."""
        if info.compress_type == zipfile.ZIP_STORED:
            if info.compress_size != info.file_size:
                self._zip.refuse("its sizes are wrong", path=path)
            data = self._zip.read(start, info.file_size)
        else:
            data = self._inflated(info, path, start)
        if zlib.crc32(data) != info.CRC:
            self._zip.refuse("is damaged: its checksum is wrong", path=path)
        return data

    def _inflated(self, info: zipfile.ZipInfo, path: str, start: int) -> bytes:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        data = bytearray()
        packed = b""
        left = info.compress_size
        try:
            while len(data) <= info.file_size and not inflater.eof and (packed or left):
                if not packed:
                    at = start + info.compress_size - left
                    packed = self._zip.read(at, min(left, _CHUNK))
                    left -= len(packed)
                # One octet more than promised is enough to know that the promise is broken.
                data += inflater.decompress(packed, info.file_size + 1 - len(data))
                packed = inflater.unconsumed_tail
        except zlib.error:
            self._zip.refuse("is damaged and cannot be unpacked", path=path)
        if len(data) != info.file_size or not inflater.eof or left or inflater.unused_data:
            what = f"does not unpack to the {info.file_size:,} bytes that it declares"
            self._zip.refuse(what, path=path)
        return bytes(data)
