"""Log records that a test waits for."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import trio

from trio_gw.telemetry import logs

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
        with trio.fail_after(60):
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


@contextlib.contextmanager
def configured(level: str = "INFO", name: str = "", style: str = "text") -> Iterator[None]:
    """Configure the log as a process does, and put everything back."""
    loggers = [logging.getLogger(name) for name in ("trio_gw", "trio_gw.access")]
    before = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    handlers = logs._handler, logs._access, logging.lastResort
    try:
        logs.configure(level, name, style)
        yield
    finally:
        logs._handler, logs._access, logging.lastResort = handlers
        for one, state in zip(loggers, before, strict=True):
            one.handlers[:], one.level, one.propagate = state
