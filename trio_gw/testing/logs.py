"""What one gateway logs, apart from what other gateways of the same process log."""

from __future__ import annotations

import contextlib
import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from trio_gw.telemetry.logs import LineFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator

_current: ContextVar[Capture | None] = ContextVar("trio_gw_testing_capture", default=None)
_running: list[Capture] = []
_level = logging.NOTSET  # of the logger, before the first one
_lock = threading.Lock()


class Capture(logging.Handler):
    """Keeps the lines that are logged by the tasks and threads of one gateway."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(LineFormatter())

    def claim(self) -> None:
        """Say that what this task and those that it starts log is for this capture."""
        _current.set(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what other gateways log."""
        current = _current.get()
        mine = current is self or (current is None and _running == [self])
        return mine and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def captured() -> Iterator[Capture]:
    """Capture log lines from level INFO on, whatever the level of the logger is."""
    global _level
    logger = logging.getLogger("trio_gw")
    capture = Capture()
    with _lock:
        if not _running:
            _level = logger.level
            if logger.getEffectiveLevel() > logging.INFO:
                logger.setLevel(logging.INFO)
        _running.append(capture)
        logger.addHandler(capture)
    try:
        yield capture
    finally:
        with _lock:
            logger.removeHandler(capture)
            _running.remove(capture)
            if not _running:
                logger.setLevel(_level)
