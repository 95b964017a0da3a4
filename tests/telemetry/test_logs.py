"""Log lines stay one line, whatever a peer or a file name puts into them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from support.logged import configured
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        ("safe\u202eexe.txt", "safe\\u202eexe.txt"),
        ("a\u2066b\u200bc\u00add\ufeffe", "a\\u2066b\\u200bc\\xadd\\ufeffe"),
        ("\ufffe \U0001fffe \U000e0041 \ufdd0", "\\ufffe \\U0001fffe \\U000e0041 \\ufdd0"),
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
    with configured():
        logs.configure("WARNING")
        logging.getLogger("trio_gw.some").info("unheard")
        logging.getLogger("trio_gw.some").warning("once")
        assert capsys.readouterr().err.count("warning: once\n") == 1
        assert len(logging.getLogger("trio_gw").handlers) == 1


def test_json() -> None:
    entry = record("a\n%s", "b\x1b", level=logging.WARNING)
    entry.shown, entry.fields = {"n": 1}, {"text": "x\u2028\udcff", "none": None}
    line = logs.JsonFormatter("worker 2").format(entry)
    made = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made.pop("time"))
    assert made == {
        "level": "warning",
        "logger": "trio_gw.test",
        "message": "a\\x0ab\\x1b",
        "process": "worker 2",
        "n": 1,
        "text": "x\\u2028\\udcff",
    }
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("formatter", [logs.LineFormatter(), logs.JsonFormatter()])
def test_what_is_long_is_cut(formatter: logging.Formatter) -> None:
    entry = record("%s", "m" * 10_240)
    entry.fields = {"v": "v" * 10_240}
    line = formatter.format(entry)
    assert "m" * logs.MAX_MESSAGE + f"…(+{10_240 - logs.MAX_MESSAGE})" in line
    assert "v" * logs.MAX_VALUE + f"…(+{10_240 - logs.MAX_VALUE})" in line


def test_fields_in_text() -> None:
    entry = record("ended")
    entry.shown, entry.fields = {"shown": 1}, {"a": "b c", "d": "", "e": None, "f": 'x"=', "g": 2}
    line = logs.LineFormatter().format(entry)
    assert line.endswith('trio_gw.test: ended a="b c" f="x\\"=" g=2')


@pytest.mark.parametrize("formatter", [logs.LineFormatter(), logs.JsonFormatter()])
def test_a_traceback_cannot_forge_a_line(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("boom\x1b[2J\r")
    except ValueError:
        entry = record("bug", level=logging.ERROR)
        entry.exc_info = sys.exc_info()
    line = formatter.format(entry)
    assert not set(line) & set("\x1b\r\u2028")
    assert "ValueError: boom" in line


def test_lines_tell_the_request_they_are_about() -> None:
    token = logs.request_id.set("id-7")
    try:
        assert logs.LineFormatter().format(record("x")).endswith(": x request_id=id-7")
        assert json.loads(logs.JsonFormatter().format(record("x")))["request_id"] == "id-7"
    finally:
        logs.request_id.reset(token)
    assert "request_id" not in logs.LineFormatter().format(record("x"))
    assert "request_id" not in logs.JsonFormatter().format(record("x"))


@contextlib.contextmanager
def events() -> Iterator[logging.Logger]:
    """Give a logger below a root that has no handler but `configure`'s."""
    with configured("INFO", "worker 2", "json"):
        yield logging.getLogger("trio_gw.event")


@pytest.mark.parametrize(
    ("message", "shown", "more"),
    [
        ("plain", {"by": "client", "code": 1000}, {"duration": 0.25, "topic": "/t"}),
        ("nothing", {}, {}),
        ('quoted "x"', {"reason": "back\\slash"}, {"request_id": "own"}),
        ("line\nbreak", {"a": "\x1b[31m"}, {"b": "\x7f"}),
        ("beyond ASCII", {"a": "\u00fc\u2028"}, {"b": "broken \udcff"}),
        ("turned \u202e", {"a": "\u2066"}, {"b": "\U000e0041"}),
        ("long", {"a": "v" * logs.MAX_VALUE}, {"b": "v" * (logs.MAX_VALUE + 1)}),
        ("one value too long", {}, {"b": "v" * (logs.MAX_VALUE + 1)}),
        ("m" * (logs.MAX_MESSAGE + 1), {}, {}),
    ],
)
def test_an_event_is_the_same_line_with_and_without_a_record(
    message: str,
    shown: dict[str, str | int],
    more: dict[str, str | float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = logs.request_id.set("id-7")
    try:
        with events() as logger:
            logs.event(logger, logging.INFO, message, shown, more)
            logger.info("%s", message, extra={"shown": shown, "fields": more})
    finally:
        logs.request_id.reset(token)
    short, long = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", short.pop("time"))
    del long["time"]
    assert short == long
    assert list(short) == list(long)


def test_an_event_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    with events() as logger:
        logs.set_level("warning")
        logs.event(logger, logging.INFO, "unheard", {}, {})
        logs.event(logger, logging.WARNING, "heard", {}, {})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("warning", "heard")]


def test_whoever_else_listens_gets_a_record() -> None:
    records: list[logging.LogRecord] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    other = Other()
    with events() as logger:
        for one in (logger, logging.getLogger("trio_gw")):
            one.addHandler(other)
            logs.event(logger, logging.INFO, "heard", {"a": 1}, {})
            one.removeHandler(other)
    assert [record.getMessage() for record in records] == ["heard", "heard"]


@pytest.mark.parametrize("background", [True, False])
def test_a_log_that_cannot_be_written_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, *, background: bool
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with events() as logger:
            with logs.background() if background else contextlib.nullcontext():
                logs.event(logger, logging.INFO, "lost", {}, {})
                logger.info("lost")
            assert logs.dropped() == (2, 0)
        monkeypatch.undo()


@pytest.mark.parametrize("style", ["text", "json"])
def test_lost_lines_are_told_of_in_their_place(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with configured("INFO", "worker 2", style):
            while not logs.dropped()[0]:
                logging.getLogger("trio_gw.event").info("x" * 3000)
            assert os.read(read, 1 << 20)
            logging.getLogger("trio_gw.event").info("flows")
        monkeypatch.undo()
        shown, flows = reader.readline(), reader.readline()
    assert b"1 log lines were dropped because standard error could not be written" in shown
    assert b"warning" in shown
    assert b"worker 2" in shown
    assert b"flows" in flows


def test_lost_access_lines_are_told_of_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with configured():
            while not logs.dropped()[1]:
                logging.getLogger("trio_gw.access").info("x" * 3000)
            assert "dropped" not in capsys.readouterr().err
            assert os.read(read, 1 << 20)
            logs.show("flows")
            said = capsys.readouterr().err
        monkeypatch.undo()
        assert reader.readline() == b"flows\n"
    assert "warning: 1 access log lines were dropped because standard output could" in said


def test_what_libraries_and_the_interpreter_say_goes_the_same_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("boom")

    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        with configured(), logs.background():
            logging.getLogger("some.library").warning("old\nnews")
            logging.getLogger("some.library").info("unheard")
            Failing()
    finally:
        root.handlers = before
    said = capsys.readouterr().err
    assert "some.library: warning: old\\x0anews\n" in said
    assert "unheard" not in said
    assert "trio_gw.log: error: Exception ignored " in said
    assert "ValueError: boom" in said
