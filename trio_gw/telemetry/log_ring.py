"""The last log lines of this process, in memory, for the operator's pages.

A line costs one append. Lines about single connections have a ring of their own, so that they do
not push out what happens rarely. Secrets do not belong into log lines; what looks like one is
masked all the same before a line is shown.
"""

from __future__ import annotations

import re
from collections import deque
from heapq import merge
from operator import itemgetter
from typing import NamedTuple

import msgspec

LINES = 500  # of each ring
MAX_LINE = 4096  # characters
FREQUENT = ("trio_gw.connection", "trio_gw.access")

_SECRETS = re.compile(
    r"(?P<jwt>eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?)"
    r"|(?P<scheme>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}"
    r"|(?P<name>\b(?:pass(?:word|wd)?|secret|client_secret|token|access_token|api_?key|apikey)"
    r"[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;}]+"
    r"|(?P<login>://[^\s/:@]+:)[^\s/@]+(?=@)",
    re.IGNORECASE,
)
MASK = "***"


class Line(NamedTuple):
    """One line as it was logged; the text is the whole line in the format of the log."""

    at: float  # epoch seconds
    level: int
    logger: str
    text: str | bytes


class ShownLine(msgspec.Struct, frozen=True):
    """One line for people: without what its other members say."""

    at: float
    level: int
    logger: str
    text: str
    worker: int


class LogRing:
    """Both rings."""

    def __init__(self, lines: int = LINES) -> None:
        self._rare: deque[Line] = deque(maxlen=lines)
        self._frequent: deque[Line] = deque(maxlen=lines)

    def clear(self) -> None:
        """Forget all lines."""
        self._rare.clear()
        self._frequent.clear()

    def append(self, at: float, level: int, logger: str, text: str | bytes) -> None:
        """Keep a line."""
        if len(text) > MAX_LINE:
            text = text[:MAX_LINE]
        ring = self._frequent if logger in FREQUENT and level <= 20 else self._rare
        ring.append(Line(at, level, logger, text))

    def shown(
        self, worker: int, level: int = 0, logger: str = "", match: str = ""
    ) -> list[ShownLine]:
        """Return the lines from this level on, the last ones last."""
        wanted = match.casefold()
        found: deque[ShownLine] = deque(maxlen=LINES)
        for line in merge(list(self._rare), list(self._frequent), key=itemgetter(0)):
            if line.level < level or not line.logger.startswith(logger):
                continue
            text = masked(message_of(line))
            if not wanted or wanted in text.casefold():
                found.append(ShownLine(line.at, line.level, line.logger, text, worker))
        return list(found)


def message_of(line: Line) -> str:
    """Return the message and the fields of a line, of either format."""
    text = line.text.decode("utf-8", "replace") if isinstance(line.text, bytes) else line.text
    text = text.rstrip("\n")
    if text.startswith("{"):
        try:
            made = msgspec.json.decode(text, type=dict[str, object])
        except msgspec.DecodeError:  # it was cut
            return text
        for known in ("time", "level", "logger", "process"):
            made.pop(known, None)
        message = str(made.pop("message", ""))
        trace = made.pop("traceback", "")
        # Most fields of frequent lines are in the message, too.
        texts = ((name, str(value)) for name, value in made.items())
        fields = "".join(f" {name}={text}" for name, text in texts if text and text not in message)
        return f"{message}{fields}" + (f"\n{trace}" if trace else "")
    _, found, rest = text.partition(f" {line.logger}: ")
    rest = rest if found else text
    for prefix in ("warning: ", "error: "):
        rest = rest.removeprefix(prefix)
    return rest


def masked(text: str) -> str:
    """Mask what looks like a token, a password or a key."""

    def mask(found: re.Match[str]) -> str:
        return f"{found['scheme'] or found['name'] or found['login'] or ''}{MASK}"

    return _SECRETS.sub(mask, text)


ring = LogRing()
"""The ring of this process; `logs` fills it."""
