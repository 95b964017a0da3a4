"""The secrets that tests make, and everything the gateways wrote: neither may be in the other.

`secret` keeps a token or password; `wrote` keeps a text that a gateway wrote: a log line, the
output of a process, an error body, a command's answer. `conftest` compares them at the end.
"""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

LEAST = 12  # shorter ones are words that stand in texts anyway
PREFIX = 16  # letters of a secret that are enough to betray it
_TAIL = re.compile(r"[A-Za-z0-9_.=-]+$")  # header and claims of a token
_RUN = re.compile(rf"[A-Za-z0-9_-]{{{LEAST},}}")


class Book(NamedTuple):
    """Secrets on one side, texts with their sources on the other."""

    runs: set[str]  # the parts of secrets that are letters, digits, - and _
    others: set[str]
    texts: dict[str, str]

    def secret(self, text: str) -> str:
        """Keep a secret; returns it. Of a token the signature alone is one."""
        last = text.rstrip(".=").rpartition(".")[2]
        if _RUN.fullmatch(last):
            self.runs.add(last[:PREFIX])
        elif len(text) >= LEAST:
            self.others.add(text)
        return text

    def wrote(self, text: str, source: str) -> None:
        """Keep what a gateway wrote; `source` says which part of it."""
        self.texts.setdefault(text, source)

    def leaks(self) -> list[str]:
        """Name the texts that hold a secret, by their source and the letters before it."""
        found = []
        for text, source in self.texts.items():
            at = [run.start() for run in _RUN.finditer(text) if run[0][:PREFIX] in self.runs]
            at += [text.index(other) for other in self.others if other in text]
            if at:
                before = _TAIL.sub("", text[: min(at)])
                found.append(f"{source}: {before[-80:]!r} and then a secret")
        return found


BOOK = Book(set(), set(), {})
secret = BOOK.secret
wrote = BOOK.wrote


class Recorder(logging.Handler):
    """Keeps every log record of the gateway, DEBUG included, as it would be shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        source = f"log {record.name} {record.levelname}"
        wrote(self.format(record), source)
        if fields := getattr(record, "fields", None):
            wrote(f"{record.shown} {fields}", source)  # type: ignore[attr-defined]
