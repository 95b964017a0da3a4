"""The central directory at the end of a zip file, checked before it is used.

Called by `archive`. Finds the end record, plain or zip64. It must end the file, the directory must
be directly before it, and the number of entries must be correct. The standard library then reads
the entries. Without these checks it would use the size only and create objects for any number of
entries.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from trio_gw.config.faults import printable
from trio_gw.config.node_builder import IncompleteError
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from typing import BinaryIO

FILE_BYTES = 128 << 20  # of the zip itself
ENTRIES = 10_000

REPACK = "create the zip again with a common zip tool"
REMOVE_FILES = "remove files that do not belong to the API"

_DIRECTORY_BYTES = 4 << 20  # 10,000 names of 350 bytes
_MAX_COMMENT = 0xFFFF
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")


class CentralDirectory(NamedTuple):
    """Position and size of the directory, and its number of entries."""

    offset: int
    size: int
    entries: int


class ZipReader:
    """A file that should be a zip, of at most `limit` bytes. `name` is its name in problems."""

    def __init__(self, file: BinaryIO, name: str, limit: int = FILE_BYTES) -> None:
        self.name = name
        self._limit = limit
        self._file = file
        self._size = file.seek(0, os.SEEK_END)

    def refuse(self, what: str, hint: str = REPACK, path: str = "") -> NoReturn:
        """Raise `UnusableError`; `path` is the entry with the fault, if any."""
        raise UnusableError([self.problem(what, hint, path)])

    def problem(self, what: str, hint: str, path: str = "") -> Problem:
        """Create a problem of the zip, or of one entry."""
        file = f"{self.name}/{printable(path[:200])}" if path else self.name
        return Problem(file, 0, 0, printable(what), printable(hint))

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes. Raises `IncompleteError` if there are fewer."""
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            self._incomplete("became shorter while it was read")
        return data

    def directory(self) -> CentralDirectory:
        """Find the directory; it must be directly before the end record."""
        if self._size > self._limit:
            what = f"has {self._size:,} bytes, more than {self._limit >> 20} MiB"
            self.refuse(what, REMOVE_FILES)
        head = self.read(0, min(4, self._size))
        if not head.strip(b"\0"):
            self._incomplete("is empty")
        if head not in (b"PK\3\4", b"PK\5\6"):
            if b"PK\3\4".startswith(head):
                self._incomplete("is truncated after the first bytes")
            self.refuse("is not a zip file: the first bytes are wrong")
        tail_size = min(self._size, _END.size + _MAX_COMMENT)
        tail = self.read(self._size - tail_size, tail_size)
        at = tail.rfind(b"PK\5\6")  # The last one, as in other readers.
        if at < 0 or tail_size - at < _END.size:
            self._incomplete("is truncated: the directory at the end is missing")
        end = self._size - tail_size + at
        _, disk, start_disk, here, entries, size, offset, comment = _END.unpack_from(tail, at)
        if at + _END.size + comment != tail_size:
            self.refuse(
                "has bytes after the end record, or a comment that looks like an end record"
            )
        found = CentralDirectory(offset, size, entries)
        if disk or start_disk or here != entries:
            self.refuse("is one part of several", "create a single zip")
        found, end = self._larger(found, end)
        if found.entries > ENTRIES:
            what = f"contains {found.entries:,} entries, more than {ENTRIES:,}"
            self.refuse(what, REMOVE_FILES)
        if found.offset + found.size != end or found.size > _DIRECTORY_BYTES:
            self.refuse("position or size of its directory does not match its end record")
        return found

    def _larger(self, found: CentralDirectory, end: int) -> tuple[CentralDirectory, int]:
        """Use the zip64 end record if there is one; some tools always write it.

        Values of the plain record must be equal, or the marker for "see the zip64 record".
        """
        if end < _END64.size + _LOCATOR.size:
            return found, end
        block = self.read(end - _END64.size - _LOCATOR.size, _END64.size + _LOCATOR.size)
        mark, disk, where, disks = _LOCATOR.unpack_from(block, _END64.size)
        if mark != b"PK\6\7":
            return found, end
        mark, length, _, _, one, two, here, entries, size, offset = _END64.unpack_from(block)
        start = end - len(block)
        if mark != b"PK\6\6" or length != _END64.size - 12 or where != start:
            self.refuse("its zip64 end record is in the wrong place")
        larger = CentralDirectory(offset, size, entries)
        for plain, real, full in zip(found, larger, (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF), strict=True):
            if plain not in (real, full):
                self.refuse("its two end records do not agree")
        if disk or disks > 1 or one or two or here != entries:
            self.refuse("is one part of several", "create a single zip")
        return larger, start

    def infos(self, directory: CentralDirectory) -> list[zipfile.ZipInfo]:
        """Read the directory with the standard library, after checking the number of entries.

        The library uses the size only and would create objects for any number of entries.
        """
        data = self.read(directory.offset, directory.size)
        at = 0
        for _ in range(directory.entries):
            if at + _CENTRAL.size > len(data) or not data.startswith(b"PK\1\2", at):
                self.refuse("its directory is damaged")
            fields = _CENTRAL.unpack_from(data, at)
            at += _CENTRAL.size + sum(fields[10:13])
        if at != len(data):
            self.refuse("the size of its directory does not match its entries")
        try:
            with zipfile.ZipFile(self._file) as archive:
                return archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            self.refuse(f"its directory is damaged ({error})")

    def _incomplete(self, what: str) -> NoReturn:
        hint = "copy the complete file, or remove it"
        raise IncompleteError([self.problem(what, hint)])
