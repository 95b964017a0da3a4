"""Log records that a test waits for."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class Logged(logging.Handler):
    """The records of one logger, in order, each to be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._came = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; called in the Trio thread."""
        self.records.append(record)
        came, self._came = self._came, trio.Event()
        came.set()

    def texts(self, level: int = logging.INFO) -> list[str]:
        """Give the texts of records of at least this level."""
        return [record.getMessage() for record in self.records if record.levelno >= level]

    async def wait(self, text: str) -> str:
        """Wait for a record that holds this text; fails after 10 seconds."""
        with trio.fail_after(10):
            while not (found := [one for one in self.texts() if text in one]):
                await self._came.wait()
        return found[0]


@contextlib.contextmanager
def logged(name: str) -> Iterator[Logged]:
    """Collect what a logger says, for as long as the context lasts."""
    logger, handler = logging.getLogger(name), Logged()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
