"""The directory at the end of a zip file, checked before anything is made of it.

Called by `archive`. Finds the end record, plain and zip64, and insists that it ends the file and
that the directory lies right before it, with as many entries as announced. The entries themselves
are then read by the standard library, which would otherwise go by the size alone and make
objects of as many entries as fit.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from trio_gw.config.faults import printable
from trio_gw.config.nodes import IncompleteError
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from typing import BinaryIO

FILE_BYTES = 128 << 20  # of the zip itself
ENTRIES = 10_000

AGAIN = "pack the project again with an ordinary zip tool"
LESS = "remove what does not belong to the API"

_DIRECTORY_BYTES = 4 << 20  # 10,000 names of 350 octets
_MAX_COMMENT = 0xFFFF
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")


class Directory(NamedTuple):
    """Where the directory lies, and how many entries it has."""

    offset: int
    size: int
    entries: int


class Zip:
    """A file that should be a zip. `name` stands for it in problems."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._size = file.seek(0, os.SEEK_END)

    def refuse(self, what: str, hint: str = AGAIN, path: str = "") -> NoReturn:
        """Raise `UnusableError`; `path` is an entry, if one is to blame."""
        raise UnusableError([self.problem(what, hint, path)])

    def problem(self, what: str, hint: str, path: str = "") -> Problem:
        """Make a problem of the zip, or of one entry."""
        file = f"{self.name}/{printable(path[:200])}" if path else self.name
        return Problem(file, 0, 0, printable(what), printable(hint))

    def read(self, offset: int, size: int) -> bytes:
        """Read so many octets. Raises `IncompleteError` if there are fewer."""
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            self._incomplete("breaks off while it is read")
        return data

    def directory(self) -> Directory:
        """Find the directory; it must end the file, and begin where the entries end."""
        if self._size > FILE_BYTES:
            what = f"has {self._size:,} bytes, more than {FILE_BYTES >> 20} MiB"
            self.refuse(what, LESS)
        head = self.read(0, min(4, self._size))
        if not head.strip(b"\0"):
            self._incomplete("is empty")
        if head not in (b"PK\3\4", b"PK\5\6"):
            if b"PK\3\4".startswith(head):
                self._incomplete("breaks off at its very beginning")
            self.refuse("is not a zip file: it does not begin like one")
        tail_size = min(self._size, _END.size + _MAX_COMMENT)
        tail = self.read(self._size - tail_size, tail_size)
        at = tail.rfind(b"PK\5\6")  # The last one, as other readers take it.
        if at < 0 or tail_size - at < _END.size:
            self._incomplete("breaks off: the directory at its end is missing")
        end = self._size - tail_size + at
        _, disk, start_disk, here, entries, size, offset, comment = _END.unpack_from(tail, at)
        if at + _END.size + comment != tail_size:
            self.refuse("has bytes after its end, or a comment that looks like its end")
        found = Directory(offset, size, entries)
        if disk or start_disk or here != entries:
            self.refuse("is one part of several", "pack the project into a single zip")
        found, end = self._larger(found, end)
        if found.entries > ENTRIES:
            what = f"holds {found.entries:,} entries, more than {ENTRIES:,}"
            self.refuse(what, LESS)
        if found.offset + found.size != end or found.size > _DIRECTORY_BYTES:
            self.refuse("its directory is not where, or not as long as, its end says")
        return found

    def _larger(self, found: Directory, end: int) -> tuple[Directory, int]:
        """Prefer the zip64 form of the end, which some tools always write.

        Values of the plain form must be the same or say "look there".
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
            self.refuse("its zip64 end is not where it should be")
        larger = Directory(offset, size, entries)
        for plain, real, full in zip(found, larger, (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF), strict=True):
            if plain not in (real, full):
                self.refuse("its two ends say different things")
        if disk or disks > 1 or one or two or here != entries:
            self.refuse("is one part of several", "pack the project into a single zip")
        return larger, start

    def infos(self, directory: Directory) -> list[zipfile.ZipInfo]:
        """Let the standard library read the directory, once it is known to be as announced.

        It would go by the size alone, and make objects of as many entries as fit.
        """
        data = self.read(directory.offset, directory.size)
        at = 0
        for _ in range(directory.entries):
            if at + _CENTRAL.size > len(data) or not data.startswith(b"PK\1\2", at):
                self.refuse("its directory is damaged")
            fields = _CENTRAL.unpack_from(data, at)
            at += _CENTRAL.size + sum(fields[10:13])
        if at != len(data):
            self.refuse("its directory holds more, or less, than its end says")
        try:
            with zipfile.ZipFile(self._file) as archive:
                return archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            self.refuse(f"its directory is damaged ({error})")

    def _incomplete(self, what: str) -> NoReturn:
        hint = "copy the whole file, or remove it"
        raise IncompleteError([self.problem(what, hint)])
