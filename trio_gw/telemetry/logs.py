"""Log lines: one per event on standard error, for people or for programs.

Whatever a name or a peer contains is escaped and cut here, in the formatters, so that no caller
can forget to (CWE-117); tracebacks, for bugs only, keep their lines in text, and are one value in
JSON. What a line knows beyond its message are its *fields* (`fields`): members of the object in
JSON, `key=value` behind the message in text. While a connection is served, `request_id` is set,
and every line written on its behalf tells it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TextIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task serves; set by `proxy.connection`."""

MAX_VALUE = 512  # characters of one value, before what it is cut to
MAX_MESSAGE = 4096
MAX_TRACEBACK = 32768

Value = str | int | float | None

_NAMES = {logging.INFO: "info", logging.DEBUG: "debug"}
_LEVELS = {"WARNING": "warning: ", "ERROR": "error: ", "CRITICAL": "error: "}
# C0, DEL and C1 controls, and the two Unicode line separators.
_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x09
} | {0x2028: "\\u2028", 0x2029: "\\u2029"}


_handler: logging.StreamHandler[TextIO] | None = None  # set by `configure`


def escape(text: str) -> str:
    """Make a text fit one line of a log or terminal."""
    if text.isascii() and text.isprintable():
        return text  # nearly all are, and it is told ten times faster
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def cut(text: str, most: int = MAX_VALUE) -> str:
    """Shorten a text to `most` characters, and say how many are missing."""
    return text if len(text) <= most else f"{text[:most]}…(+{len(text) - most})"


def event(
    logger: logging.Logger,
    level: int,
    message: str,
    told: Mapping[str, Value],
    more: Mapping[str, Value],
) -> None:
    """Log a line with fields; what the message has `told` is not repeated in text.

    Most lines are of this kind, and where nobody but our own handler listens, a line for programs
    needs no log record: making, passing on and reading one costs ten times as much as the line.
    """
    if not logger.isEnabledFor(level):
        return
    root, handler = logger.parent, _handler
    if (
        handler is not None
        and root is not None
        and root.handlers == [handler]
        and not (logger.handlers or logger.filters)
        and isinstance(handler.formatter, JsonFormatter)
    ):
        line = handler.formatter.simple(level, logger.name, message, told, more)
        if line and _written(handler, line):
            return
    logger.log(level, "%s", message, extra={"told": told, "fields": more})


def _written(handler: logging.StreamHandler[TextIO], line: str) -> bool:
    """Write a line; on failure the caller goes the way on which failures are told."""
    handler.acquire()
    try:
        handler.stream.write(line)
        handler.stream.flush()
    except (OSError, ValueError):
        return False
    finally:
        handler.release()
    return True


class LineFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 trio_gw.feed: error: …`, in local time.

    Where there are several processes, the `name` of this one stands before the logger's.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self._name = f"{name} " if name else ""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record as one line, plus a traceback if it carries one."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = _LEVELS.get(record.levelname, "")
        message = escape(cut(record.getMessage(), MAX_MESSAGE))
        line = f"{stamp}.{int(record.msecs):03d} {self._name}{record.name}: {level}{message}"
        more = dict(getattr(record, "fields", {}))
        more.setdefault("request_id", request_id.get())
        for key, value in more.items():
            if value not in ("", None):
                line += f" {key}={_word(value)}"
        if record.exc_info:
            line += "\n" + _traceback(self, record)
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: `time` (UTC), `level`, `logger`, `message`, and the record's fields."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self._name = name
        self._second, self._stamp = -1, ""  # of the last line; most come within one second

    def format(self, record: logging.LogRecord) -> str:
        """Format one record as one line."""
        made: dict[str, Value] = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escape(cut(record.getMessage(), MAX_MESSAGE)),
        }
        if self._name:
            made["process"] = self._name
        if of := request_id.get():
            made["request_id"] = escape(cut(of))
        for key, value in (getattr(record, "told", {}) | getattr(record, "fields", {})).items():
            if value is not None:
                made[key] = escape(cut(value)) if isinstance(value, str) else value
        if record.exc_info:
            made["traceback"] = _traceback(self, record)
        return msgspec.json.encode(made).decode()

    def simple(
        self,
        level: int,
        logger: str,
        message: str,
        told: Mapping[str, Value],
        more: Mapping[str, Value],
    ) -> str:
        """Format as `format` does, with its line end, if nothing has to be escaped or cut; else "".

        Whether that is so is asked once of the whole line, not of each value. No value of `told`
        and `more` may be None.
        """
        made: dict[str, Value] = {
            "time": self._time(time.time()),
            "level": _NAMES.get(level) or logging.getLevelName(level).lower(),
            "logger": logger,
            "message": message,
        }
        if self._name:
            made["process"] = self._name
        if of := request_id.get():
            made["request_id"] = of
        made |= told
        made |= more
        # A line that is not longer than this has no room for a value that is too long: every name
        # takes its own length and at least five octets.
        most = MAX_VALUE + len(message) + sum(map(len, made)) + 5 * len(made)
        try:
            line = msgspec.json.encode(made)
        except UnicodeEncodeError:  # what was no UTF-8
            return ""
        if (
            len(line) > most
            or len(message) > MAX_MESSAGE
            or b"\\" in line
            or b"\x7f" in line
            or not line.isascii()
        ):
            return ""
        return line.decode() + "\n"

    def _time(self, when: float) -> str:
        second = int(when)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((when - second) * 1000):03d}Z"


def _word(value: Value) -> str:
    """Write a value so that it is seen where it ends."""
    text = escape(cut(str(value)))
    return json.dumps(text, ensure_ascii=False) if set(text) & set(' "=\t') else text


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    assert record.exc_info
    text = cut(formatter.formatException(record.exc_info), MAX_TRACEBACK)
    return "\n".join(map(escape, text.split("\n")))


def configure(
    level: str = "INFO",
    name: str = "",
    style: Literal["auto", "text", "json"] | str = "text",
) -> None:
    """Send the gateway's log lines to standard error from `level` on, with this process's name.

    `style` is `text`, `json`, or `auto`: text on a terminal, JSON otherwise. Lines of the logger
    `trio_gw.access` are complete as they are, and go to standard output.
    """
    # Where in the code a line was written is not told, so it need not be found out.
    logging._srcfile = None
    global _handler
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(name) if text else JsonFormatter(name))
    root = logging.getLogger("trio_gw")
    root.handlers[:] = [handler]
    root.propagate = False
    _handler = handler
    bare = logging.StreamHandler(sys.stdout)
    bare.setFormatter(logging.Formatter("%(message)s"))
    access = logging.getLogger("trio_gw.access")
    access.handlers[:] = [bare]
    access.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    """Let lines through from this level on (any case); the access log is not concerned."""
    logging.getLogger("trio_gw").setLevel(level.upper())
    logging.getLogger("trio_gw.access").setLevel(logging.INFO)
