"""Read an API project from a zip file: its needed files in memory, or the reasons to refuse it.

Called by `project_files` for `*.zip` in the watched folder, and for uploads. Blocks; call it in a
worker thread. It never writes to disk, so it leaves no files behind.

A zip describes each file twice, in the header before the file and in the directory at the end, and
readers use different ones. Here both must agree, entries must not share bytes, and not more is
unpacked than the declared size. Names that a careless reader would write outside of its folder are
refused, although nothing is written here.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import zipfile
from typing import TYPE_CHECKING, BinaryIO

from trio_gw.config.project import wanted
from trio_gw.errors import Problem, UnusableError
from trio_gw.feed.zip_directory import REMOVE_FILES, ZipReader
from trio_gw.feed.zip_entries import FLAG_ENCRYPTED, ZipEntries

if TYPE_CHECKING:
    from collections.abc import Iterator


ENTRY_BYTES = 2 << 20  # of one needed file, unpacked
WANTED_BYTES = 16 << 20  # of all needed files, unpacked
TOTAL_BYTES = 128 << 20  # of all entries, by their declared sizes; most are never unpacked
RATIO = 200  # Text rarely compresses more than 20:1; deflate can reach 1000:1.
RATIO_FROM = 1 << 20  # The ratio of smaller files is not checked; they cause no harm.
PROBLEMS = 20  # reported for one zip at most

_DRIVE = re.compile(r"[A-Za-z]:")

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO


def unpack(source: Source, name: str) -> dict[str, bytes]:
    """Read the needed files of a zipped project by relative POSIX path.

    `source` is the content of the zip, its path, or an open seekable file; `name` is its name in
    problems. Only needed files are held in memory.

    Raises `UnusableError` for every fault of the zip, `IncompleteError` if it may still be being
    copied. Raises `OSError` only if the file system fails. spec: project-format §1.
    """
    with _opened(source, name) as file:
        return _Archive(file, name).unpack()


@contextlib.contextmanager
def _opened(source: Source, name: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        # Without O_NONBLOCK, opening a named pipe blocks until another process writes to it.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with open(os.open(source, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                what = "is not a regular file, so it is not read"
                raise UnusableError([Problem(name, 0, 0, what, "replace it with a file")])
            yield file
    else:
        yield source


class _Archive:
    """One call of `unpack`."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._zip = ZipReader(file, name)
        self._problems: list[Problem] = []

    def unpack(self) -> dict[str, bytes]:
        directory = self._zip.directory()
        infos = self._zip.infos(directory)
        entries = [(info, self._path(info)) for info in infos]
        for info in infos:
            self._check(info)
        self._check_together(entries)
        self._raise_problems()
        files = ZipEntries(self._zip, infos, directory)
        return {path: files.data(info, path) for info, path in entries if wanted(path)}

    def _record(self, path: str, what: str, hint: str) -> None:
        self._problems.append(self._zip.problem(what, hint, path))

    def _raise_problems(self) -> None:
        """Raise `UnusableError` if problems have been recorded."""
        found = list(dict.fromkeys(self._problems))
        if len(found) > PROBLEMS:
            what = f"{len(found) - PROBLEMS} more problems are not shown"
            found[PROBLEMS:] = [self._zip.problem(what, "fix the problems above first")]
        if found:
            raise UnusableError(found)

    def _path(self, info: zipfile.ZipInfo) -> str:
        """Return the normalized path of a file; empty for a folder."""
        name = info.orig_filename
        parts = name.split("/")
        hint = "rename the file and create the zip again"
        if "\0" in name:
            self._record(name, "the name contains a NUL character", hint)
        if "\\" in name:
            hint = "create the zip with a tool that writes `/` between folders"
            self._record(name, "the name contains a backslash", hint)
        elif name.startswith("/") or _DRIVE.match(name):
            hint = "create the zip inside the project folder, so that names are relative"
            self._record(name, "the name is an absolute path", hint)
        elif ".." in parts:
            hint = "create the zip inside the project folder, so that names have no `..`"
            self._record(name, "the name contains `..` and leaves the zip", hint)
        path = "/".join(part for part in parts if part not in ("", "."))
        if name.endswith("/"):
            return ""
        if not path:
            self._record(name, "contains a file without a name", hint)
        return path

    def _check(self, info: zipfile.ZipInfo) -> None:
        """Record problems of a single entry."""
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind == stat.S_IFLNK:
            what = "is a symbolic link; links are not followed"
            self._record(info.filename, what, "include the file itself instead of the link")
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            self._record(
                info.filename, "is a device or a pipe, not a file", "remove it from the zip"
            )
        if info.flag_bits & FLAG_ENCRYPTED:
            self._record(info.filename, "is encrypted", "create the zip without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            what = f"uses an unsupported compression method (number {info.compress_type})"
            self._record(info.filename, what, "create the zip with the method `deflate`")

    def _check_together(self, entries: list[tuple[zipfile.ZipInfo, str]]) -> None:
        """Record duplicate names, and declared sizes above the limits."""
        seen: dict[str, str] = {}
        total = needed = 0
        for info, path in entries:
            total += info.file_size
            if not path:
                continue
            first = seen.get(path.casefold())
            if first is not None:
                what = "is in the zip twice"
                if first != path:
                    what = f"differs from `{first[:80]}` only in upper and lower case"
                self._record(path, what, "remove one of the two")
            seen.setdefault(path.casefold(), path)
            packed = max(info.compress_size, 1)
            if info.file_size > RATIO_FROM and info.file_size > RATIO * packed:
                what = f"unpacks to {info.file_size // packed:,} times its size, more than {RATIO}"
                self._record(path, what, "remove it: normal project files compress less")
            elif wanted(path):
                needed += info.file_size
                if info.file_size > ENTRY_BYTES:
                    what = f"has {info.file_size:,} bytes, more than {ENTRY_BYTES >> 20} MiB"
                    self._record(path, what, "make the file smaller")
        if needed > WANTED_BYTES:
            what = f"contains more than {WANTED_BYTES >> 20} MiB of definitions and certificates"
            self._record("", what, REMOVE_FILES)
        if total > TOTAL_BYTES:
            self._record(
                "", f"unpacks to {total:,} bytes, more than {TOTAL_BYTES >> 20} MiB", REMOVE_FILES
            )
