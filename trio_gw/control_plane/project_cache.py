"""Keeps loaded projects beside their zips. To decode one takes microseconds, to load one 3 ms.

So a start with thousands of APIs is short, and of several workers one has loaded what the others
need. Only good projects are kept. A file is used only by the same version of the loader, and if
its checksum is right; otherwise the zip is loaded again. Blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import trio_gw
from trio_gw import config
from trio_gw.config import regular
from trio_gw.config.api import ApiProject  # noqa: TC001 - msgspec needs it
from trio_gw.errors import Problem, has_errors
from trio_gw.feed.atomic_file import temporary_path
from trio_gw.feed.project_state import LoadResult

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = ".project"  # the end of the name of a file
FILE_OCTETS = 32 << 20
_VARIABLES = "api_"  # variables that replace backends (`config.overrides`)
_CHECKSUM = 32  # octets

Source = tuple[str, str, str]  # digest, backends that replace those of production and sandbox


class _Kept(msgspec.Struct, frozen=True):
    """The content of a file."""

    project: ApiProject
    problems: tuple[Problem, ...]


_decoder = msgspec.msgpack.Decoder(_Kept)


class ProjectCache:
    """The files in one folder. Keeps nothing while variables of `environ` replace backends."""

    def __init__(self, root: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._root = root
        self._off = any(name.startswith(_VARIABLES) for name in environ)
        self._version = _loader_version()

    def get(self, source: Source) -> LoadResult | None:
        """Return what was loaded from a source; None if that is not known."""
        if self._off:
            return None
        try:
            data = regular.read(self._path(source), FILE_OCTETS)
            if hashlib.sha256(data[_CHECKSUM:]).digest() != data[:_CHECKSUM]:
                return None
            kept = _decoder.decode(data[_CHECKSUM:])
        except (OSError, msgspec.MsgspecError):
            return None
        return LoadResult(kept.project, kept.problems, maybe_incomplete=False)

    def put(self, source: Source, result: LoadResult) -> None:
        """Keep what was loaded from a source, if it is good and the folder can be written."""
        if self._off or result.project is None or has_errors(result.problems):
            return
        data = msgspec.msgpack.encode(_Kept(result.project, result.problems))
        with contextlib.suppress(OSError):
            temporary = temporary_path(self._root)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                os.rename(temporary, self._path(source))
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def _path(self, source: Source) -> Path:
        digest, *backends = source
        key = hashlib.sha256("\0".join((self._version, *backends)).encode()).hexdigest()[:16]
        return self._root / f"{digest}-{key}{PROJECT}"


def _loader_version() -> str:
    """Identify the code that loads projects: by the version, and the files of its modules."""
    folder = Path(config.__file__).parent
    files = sorted((path.name, path.stat()) for path in folder.glob("*.py"))
    parts = (f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in files)
    return " ".join((trio_gw.__version__, *parts))
