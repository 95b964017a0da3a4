"""Adds and removes single lines of the file with the deny conditions. Blocks.

All other lines stay as they are, with their comments. The file is replaced by a rename under a
lock, so several workers and operators may write at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING

from trio_gw.feed.atomic_file import replacing
from trio_gw.guard import blocklist, lists

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio_gw.config.conditions import Condition, Kind

LOCK_TIMEOUT = 5.0  # seconds

Meaning = tuple["Kind", str, bool]  # `Condition.meaning`


class UnwritableError(Exception):
    """The file cannot be changed; the text says why."""


def written(condition: Condition) -> str:
    """Write a condition as a line. Raises ValueError if it would be read as another one."""
    mark = "!" if condition.invert else ""
    line = f"{condition.kind}={mark}{condition.key}"
    if condition.reason:
        line += f"  # {condition.reason}"
    found, problems = blocklist.parse(line.encode("utf-8", "replace"), "")
    same = [one.meaning for one in found] == [condition.meaning]
    if problems or not same or not line.isprintable():
        raise ValueError("this cannot be written as one line of the file")
    return line


def with_line(data: bytes, condition: Condition) -> bytes:
    """Add a condition at the end; one with the same meaning is replaced."""
    kept = without_line(data, condition.meaning)
    if kept and not kept.endswith(b"\n"):
        kept += b"\n"
    return kept + written(condition).encode() + b"\n"


def without_line(data: bytes, meaning: Meaning) -> bytes:
    """Remove every line with a condition."""
    kept = []
    for line in data.split(b"\n"):
        found, _ = blocklist.parse(line, "")
        if not any(one.meaning == meaning for one in found):
            kept.append(line)
    return b"\n".join(kept)


def add(path: Path, condition: Condition) -> None:
    """Add a condition to the file, which may be missing. Raises `UnwritableError`, ValueError."""
    with _locked(path) as (data, mode):
        _replace(path, with_line(data, condition), mode)


def remove(path: Path, meaning: Meaning) -> bool:
    """Remove a condition from the file; returns whether it was there. Raises `UnwritableError`."""
    with _locked(path) as (data, mode):
        left = without_line(data, meaning)
        if left == data:
            return False
        _replace(path, left, mode)
        return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[tuple[bytes, int]]:
    """Lock the folder of the file while the context lasts; yields its content and mode."""
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UnwritableError(f"{path.parent} cannot be opened: {error.strerror}") from None
    try:
        until = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise UnwritableError(f"{path.parent} is locked by another process") from None
                time.sleep(0.01)
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = lists.read(path, blocklist.MAX_BYTES, "", "", held=False)
        except FileNotFoundError:
            mode, data = 0o640, b""
        except OSError as error:
            raise UnwritableError(f"{path} cannot be read: {error.strerror}") from None
        yield data, mode
    finally:
        os.close(folder)


def _replace(path: Path, data: bytes, mode: int) -> None:
    if len(data) > blocklist.MAX_BYTES:
        raise UnwritableError(f"{path} would be larger than {blocklist.MAX_BYTES >> 20} MiB")
    try:
        # A symbolic link stays: the file that it names is replaced.
        with replacing(path.resolve()) as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written: {error.strerror}") from None
