"""A lock on a folder, that serializes changes also between processes. Blocks.

The system releases it when a process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from typing import TYPE_CHECKING

from trio_gw.config import regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = ".lock"
_RETRY = 0.02  # seconds


@contextlib.contextmanager
def held(folder: Path, timeout: float, mode: int = 0o777) -> Iterator[None]:
    """Hold the lock; the folder is created with `mode` if there is none.

    Raises TimeoutError after `timeout` seconds.
    """
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    with open(folder / _LOCK, "ab", opener=regular.opener) as file:
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError from None
                time.sleep(_RETRY)
        yield
