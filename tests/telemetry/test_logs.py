"""Log lines stay one line, whatever a peer or a file name puts into them."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from trio_gw.telemetry import logs


def record(message: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("trio_gw.test", level, __file__, 1, message, args, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\x0ab"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\x00b\x7fc\x85d", "a\\x00b\\x7fc\\x85d"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("broken \udcff name", "broken \\udcff name"),
        ("tab\there, \u00fc and \u4e2d stay", "tab\there, \u00fc and \u4e2d stay"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    line = logs.LineFormatter().format(record("%s", text))
    assert line.endswith(f"trio_gw.test: {shown}")
    assert len(line.splitlines()) == 1
    line.encode()


def test_shape() -> None:
    line = logs.LineFormatter().format(record("it broke", level=logging.ERROR))
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} trio_gw\.test: error: it broke", line
    )


def test_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        entry = record("bug", level=logging.ERROR)
        entry.exc_info = sys.exc_info()
    lines = logs.LineFormatter().format(entry).splitlines()
    assert lines[0].endswith("error: bug")
    assert lines[-1] == "ValueError: boom"


def test_configure_replaces_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger("trio_gw")
    before = root.handlers[:], root.level, root.propagate
    try:
        logs.configure()
        logs.configure("WARNING")
        logging.getLogger("trio_gw.some").info("unheard")
        logging.getLogger("trio_gw.some").warning("once")
        assert capsys.readouterr().err.count("warning: once\n") == 1
        assert len(root.handlers) == 1
    finally:
        root.handlers[:], root.level, root.propagate = before
