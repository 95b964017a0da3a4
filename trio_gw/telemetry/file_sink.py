"""The file sink of analytics events: a file that is rotated when it is full."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

import trio

from trio_gw.telemetry.analytics import SinkError
from trio_gw.telemetry.events import encode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio_gw.telemetry.events import Event


class FileSink:
    """Lines in a file. Beyond `max_bytes` it becomes `<file>.1`, and so on up to `keep`."""

    def __init__(self, path: Path, style: str, max_bytes: int, keep: int) -> None:
        self._path = path
        self._style = style
        self._max_bytes = max_bytes
        self._keep = keep

    async def write(self, batch: Sequence[Event]) -> None:
        """Append a whole batch, or nothing."""
        data = b"".join(encode(event, self._style) for event in batch)
        try:
            # When the gateway stops, it does not wait for a file system that hangs.
            await trio.to_thread.run_sync(self._append, data, abandon_on_cancel=True)
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from None

    async def aclose(self) -> None:
        """Do nothing: the file is closed between batches."""

    def _append(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            if not stat.S_ISREG(found.st_mode):  # for example a pipe, whose reader could block us
                raise OSError(errno.EINVAL, "not a regular file")
            size = found.st_size
        if size and size + len(data) > self._max_bytes:
            self._rotate()
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o640
        )
        try:
            before = os.fstat(descriptor).st_size
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)  # no partial lines, and no duplicates
                raise
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        aside = [self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._keep + 1)]
        for older, newer in zip(reversed(aside), reversed([self._path, *aside[:-1]]), strict=True):
            if newer.exists():
                newer.replace(older)
        if not aside:
            self._path.unlink()
