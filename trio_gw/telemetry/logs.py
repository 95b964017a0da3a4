"""Log lines for people: one line per event on standard error, whatever a name or peer contains.

Control characters from the network or from file names are escaped here, in the formatter, so
that no caller can forget to (CWE-117). Tracebacks are for bugs only and keep their lines.
"""

from __future__ import annotations

import logging
import sys
import time

_LEVELS = {"WARNING": "warning: ", "ERROR": "error: ", "CRITICAL": "error: "}
# C0, DEL and C1 controls, and the two Unicode line separators.
_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x09
} | {0x2028: "\\u2028", 0x2029: "\\u2029"}


def escape(text: str) -> str:
    """Make a text fit one line of a log or terminal."""
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


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
        message = escape(record.getMessage())
        line = f"{stamp}.{int(record.msecs):03d} {self._name}{record.name}: {level}{message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(level: str = "INFO", name: str = "") -> None:
    """Send the gateway's log lines to standard error from `level` on, with this process's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(name))
    root = logging.getLogger("trio_gw")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
