"""Log lines: one per event on standard error, as text or as JSON.

The formatters escape and cut all text, so no caller can forget it (CWE-117). Tracebacks, which only
bugs have, keep their lines in text, and are one value in JSON. A line can have *fields* (`fields`):
members of the object in JSON, `key=value` after the message in text. While a connection is served,
`request_id` is set, and every log line for this connection contains it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TextIO

import msgspec

from trio_gw.escaping import escape
from trio_gw.telemetry.log_ring import ring
from trio_gw.telemetry.writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOG = "trio_gw.log"

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task serves. Set by `proxy.connection`."""

MAX_VALUE = 512  # characters of one value; a longer one is cut
MAX_MESSAGE = 4096
MAX_TRACEBACK = 32768

Value = str | int | float | None

_NAMES = {logging.INFO: "info", logging.DEBUG: "debug"}
_LEVELS = {"WARNING": "warning: ", "ERROR": "error: ", "CRITICAL": "error: "}

_handler: _Handler | None = None  # set by `configure`
_access: _Handler | None = None


def cut(text: str, most: int = MAX_VALUE) -> str:
    """Shorten a text to `most` characters, and append how many are missing."""
    return text if len(text) <= most else f"{text[:most]}…(+{len(text) - most})"


def event(
    logger: logging.Logger,
    level: int,
    message: str,
    shown: Mapping[str, Value],
    more: Mapping[str, Value],
) -> None:
    """Log a line with fields. Text does not repeat fields that the message contains (`shown`).

    Most lines are written by this function. If no other handler listens, a JSON line needs no log
    record: a record costs ten times as much as the line.
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
        line = handler.formatter.simple(level, logger.name, message, shown, more)
        if line:
            handler.writer.put(line)
            ring.append(time.time(), level, logger.name, line)
            return
    logger.log(level, "%s", message, extra={"shown": shown, "fields": more})


class _Handler(logging.Handler):
    """Passes lines to a writer, which never blocks."""

    def __init__(self, writer: LineWriter, formatter: logging.Formatter, level: int = 0) -> None:
        super().__init__(level)
        self.setFormatter(formatter)
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            self.writer.put(line.encode("utf-8", "backslashreplace") + b"\n")
            ring.append(record.created, record.levelno, record.name, line)
        except Exception:
            self.handleError(record)


class LineFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 trio_gw.feed: error: …`, in local time.

    With several processes, the `name` of this process stands before the name of the logger.
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
    """One object per line: `time` (UTC), `level`, `logger`, `message`, and the record's fields."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self._name = name
        self._second, self._stamp = -1, ""  # of the last line; lines often share a second

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
        for key, value in (getattr(record, "shown", {}) | getattr(record, "fields", {})).items():
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
        shown: Mapping[str, Value],
        more: Mapping[str, Value],
    ) -> bytes:
        """Format as `format` does, with a line end, if nothing has to be escaped or cut.

        Otherwise return an empty value. The whole line is checked once, not each value. No value of
        `shown` and `more` may be None.
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
        made |= shown
        made |= more
        # A line of at most this length cannot contain a value that is too long: every field takes
        # the length of its name and at least five octets.
        most = MAX_VALUE + len(message) + sum(map(len, made)) + 5 * len(made)
        try:
            line = msgspec.json.encode(made)
        except UnicodeEncodeError:  # it was not UTF-8
            return b""
        if (
            len(line) > most
            or len(message) > MAX_MESSAGE
            or b"\\" in line
            or b"\x7f" in line
            or not line.isascii()
        ):
            return b""
        return line + b"\n"

    def _time(self, when: float) -> str:
        second = int(when)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((when - second) * 1000):03d}Z"


def _word(value: Value) -> str:
    """Write a value so that its end is visible."""
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
    """Write log lines from `level` on to standard error, with the name of this process.

    `style` is `text`, `json`, or `auto`: text on a terminal, JSON otherwise. Lines of the logger
    `trio_gw.access` go to standard output, unchanged.
    """
    # The log does not contain the line of code, so it need not be looked up.
    logging._srcfile = None
    global _handler, _access
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # There is no stream if its descriptor was closed.
    stderr: TextIO | None = sys.stderr
    text = style == "text" or (style == "auto" and stderr is not None and stderr.isatty())
    formatter = LineFormatter(name) if text else JsonFormatter(name)

    def lost(count: int) -> bytes:
        message = "%d log lines were dropped because standard error could not be written"
        record = logging.LogRecord(_LOG, logging.WARNING, "", 0, message, (count,), None)
        return formatter.format(record).encode() + b"\n"

    def lost_access(count: int) -> bytes:
        message = "%d access log lines were dropped because standard output could not be written"
        logging.getLogger(_LOG).warning(message, count)
        return b""

    for before in (_handler, _access):
        if before is not None:
            before.writer.close()
    if name:  # after a fork: the lines so far are those of the parent
        ring.clear()
    _handler = _Handler(LineWriter(stderr, lost), formatter)
    stdout: TextIO | None = sys.stdout
    _access = _Handler(
        LineWriter(stdout, lost_access, aside=True), logging.Formatter("%(message)s")
    )
    for logger, handler in (("trio_gw", _handler), ("trio_gw.access", _access)):
        logging.getLogger(logger).handlers[:] = [handler]
        logging.getLogger(logger).propagate = False
    # Warnings of libraries are logged too.
    logging.lastResort = _Handler(_handler.writer, formatter, logging.WARNING)
    set_level(level)


@contextlib.contextmanager
def background() -> Iterator[None]:
    """Write lines in threads, so that logging never blocks; at the end, write the queued lines.

    Call it after `configure`, and not before a fork.
    """
    with contextlib.ExitStack() as stack:
        for handler in (_handler, _access):
            if handler is not None:
                stack.enter_context(handler.writer.background())
        # By default the interpreter writes these in the thread in which they occur.
        stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        stack.callback(setattr, threading, "excepthook", threading.excepthook)
        sys.unraisablehook = _unraisable
        threading.excepthook = _thread_failed
        yield


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    error = args.exc_value
    info = None if error is None else (type(error), error, args.exc_traceback)
    what = args.err_msg or "Exception ignored in"
    logging.getLogger(_LOG).error("%s: %r", what, args.object, exc_info=info)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    error, name = args.exc_value, "?" if args.thread is None else args.thread.name
    info = None if error is None else (type(error), error, args.exc_traceback)
    logging.getLogger(_LOG).error("thread %s failed", name, exc_info=info)


def show(text: str) -> None:
    """Write a text to standard output, as access lines are written."""
    if _access is None:
        print(text, flush=True)
    else:
        _access.writer.put(text.encode("utf-8", "backslashreplace") + b"\n")


def dropped() -> tuple[int, int]:
    """Return how many lines were dropped: of the log, and of the access log."""
    return (
        0 if _handler is None else _handler.writer.dropped,
        0 if _access is None else _access.writer.dropped,
    )


def set_level(level: str) -> None:
    """Set the lowest level that is logged (in any case). The access log does not change."""
    logging.getLogger("trio_gw").setLevel(level.upper())
    logging.getLogger("trio_gw.access").setLevel(logging.INFO)
