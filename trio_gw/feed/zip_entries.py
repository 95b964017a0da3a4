"""The entries of a zip file: the headers before them, and their content.

Called by `archive`, and for zips of projects from a control plane. Headers and directory must
agree, entries must not share bytes, and not more is unpacked than the declared size.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_gw.feed.zip_directory import CentralDirectory, ZipReader

FLAG_ENCRYPTED = 0x0001 | 0x0040 | 0x2000

_CHUNK = 1 << 16
_LOCAL = struct.Struct("<4s5H3I2H")
_FLAG_DESCRIPTOR = 0x0008
_FLAG_UTF8 = 0x0800


class ZipEntries:
    """The entries of an open zip. Raises `UnusableError` if headers and directory do not agree."""

    def __init__(
        self, reader: ZipReader, infos: list[zipfile.ZipInfo], directory: CentralDirectory
    ) -> None:
        self._zip = reader
        self._starts = self._found(infos, directory)

    def _found(self, infos: list[zipfile.ZipInfo], directory: CentralDirectory) -> dict[int, int]:
        """Return where the data of each entry begins, by the offset of its header.

        Entries must follow each other from the beginning of the file to the directory. Another
        reader could find another file in a gap, and overlapping entries are typical of zip bombs.
        """
        starts: dict[int, int] = {}
        end = slack = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            at = info.header_offset
            if at < end:
                what = "it overlaps the entry before it"
                self._zip.refuse(what, path=info.filename)
            self._check_gap(at - end, slack)
            if at + _LOCAL.size > directory.offset:
                self._zip.refuse("its header is missing", path=info.filename)
            starts[at], slack = self._local(info)
            end = starts[at] + info.compress_size
            if end > directory.offset:
                self._zip.refuse("it overlaps the directory", path=info.filename)
        self._check_gap(directory.offset - end, slack)
        return starts

    def _check_gap(self, gap: int, slack: int) -> None:
        if gap > slack:
            self._zip.refuse(f"contains {gap:,} bytes that belong to no entry")

    def _local(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        """Compare the local header of an entry with the directory.

        Returns where the data begins, and the maximum length of a data descriptor after it.
        """
        header = self._zip.read(info.header_offset, _LOCAL.size)
        mark, _, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack(header)
        if mark != b"PK\3\4":
            self._zip.refuse("its header is missing", path=info.filename)
        start = info.header_offset + _LOCAL.size
        encoding = "utf-8" if flags & _FLAG_UTF8 else "cp437"
        same = self._zip.read(start, name).decode(encoding, "replace") == info.orig_filename
        same &= method == info.compress_type
        same &= not (flags ^ info.flag_bits) & (FLAG_ENCRYPTED | _FLAG_UTF8)
        # Zero means: see the data descriptor. The highest number means: see the extra field.
        described = bool((flags | info.flag_bits) & _FLAG_DESCRIPTOR)
        behind = (0,) if described else ()
        same &= crc in (info.CRC, *behind)
        same &= packed in (info.compress_size, 0xFFFFFFFF, *behind)
        same &= size in (info.file_size, 0xFFFFFFFF, *behind)
        if not same:
            what = "its header and the directory do not agree"
            self._zip.refuse(what, path=info.filename)
        return start + int(name) + int(extra), 24 if described else 0

    def data(self, info: zipfile.ZipInfo, path: str) -> bytes:
        """Unpack one entry; its size must be exactly the declared size. `path` is for problems.

        Raises `UnusableError`. Call it for entries of a declared size that memory has room for.
        """
        start = self._starts[info.header_offset]
        if info.compress_type == zipfile.ZIP_STORED:
            if info.compress_size != info.file_size:
                self._zip.refuse("its sizes do not match", path=path)
            data = self._zip.read(start, info.file_size)
        else:
            data = self._inflated(info, path, start)
        if zlib.crc32(data) != info.CRC:
            self._zip.refuse("is damaged: the checksum is wrong", path=path)
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
                # One byte more than declared is enough to detect a wrong size.
                data += inflater.decompress(packed, info.file_size + 1 - len(data))
                packed = inflater.unconsumed_tail
        except zlib.error:
            self._zip.refuse("is damaged and cannot be unpacked", path=path)
        if len(data) != info.file_size or not inflater.eof or left or inflater.unused_data:
            what = f"does not unpack to the {info.file_size:,} bytes that it declares"
            self._zip.refuse(what, path=path)
        return bytes(data)
