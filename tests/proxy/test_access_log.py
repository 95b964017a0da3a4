"""The log line about a connection: its content in each format, whatever the peer sends."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

import pytest

from support.logged import configured
from trio_gw.config.api import ApiProject, Topic
from trio_gw.errors import Ending, Phase, Side
from trio_gw.guard.caller import Application, Caller
from trio_gw.proxy.access_log import record, reference
from trio_gw.proxy.sessions import RequestInfo, Session
from trio_gw.relay.lane import Lane
from trio_gw.routing.route import Route
from trio_gw.telemetry import logs

if TYPE_CHECKING:
    from trio.testing import MockClock

EVIL = "a\r\nb\x1b[31m\u2028\udcff'\"" + "x" * 10_000


def relayed(session: Session) -> tuple[Lane, Lane]:
    """Give a session its lanes."""
    publish, subscribe = Lane(masked=True), Lane(masked=False)
    session.relay(publish, subscribe)
    return publish, subscribe


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(entry.levelno, entry.getMessage()) for entry in caplog.records]


async def test_record(caplog: pytest.LogCaptureFixture, mock_clock: MockClock) -> None:
    caplog.set_level(logging.DEBUG, "trio_gw.connection")
    session = Session("192.0.2.7")
    record(session)  # a port probe: no line
    session.request = "GET /health"
    record(session)  # hung up
    session.status = 200
    session.phase = Phase.ROUTE
    record(session)  # a health probe
    session.ending = Ending(Side.CLIENT, 0, "no route")
    session.status = 404
    record(session)
    publish, _ = relayed(session)
    publish.feed(b"\x81\x80\x00\x00\x00\x00" * 3)
    session.ending = Ending(Side.BACKEND, 1000, "done")
    record(session)
    session.ending = None
    record(session)
    assert lines(caplog) == [
        (logging.INFO, "192.0.2.7 GET /health left in phase head after 0.000 s"),
        (logging.DEBUG, "192.0.2.7 GET /health answered 200 in phase route after 0.000 s"),
        (
            logging.INFO,
            "192.0.2.7 GET /health answered 404 in phase route after 0.000 s, client: no route",
        ),
        (
            logging.INFO,
            "192.0.2.7 GET /health ended by backend: 1000 done, after 0.000 s,"
            " messages in 3, out 0",
        ),
        (
            logging.INFO,
            "192.0.2.7 GET /health ended by gateway: 1006 stopped, after 0.000 s,"
            " messages in 3, out 0",
        ),
    ]


def full(text: str) -> Session:
    """A session that has ended, every text of which is `text`."""
    session = Session("192.0.2.7")
    session.request = f"GET /{text}"
    session.request_id = "id-1"
    session.info = RequestInfo(text, text, text, text, "203.0.113.9")
    session.caller = Caller(text, application=Application(text))
    api = ApiProject("f", "i", text, text, "/c", (Topic(text),))
    session.route = Route(api, api.topics[0])
    session.backend, session.backend_path = "ws://b:80", f"/{text}"
    session.status = 101
    publish, _ = relayed(session)
    publish.feed(b"\x81\x80\x00\x00\x00\x00")
    session.ending = Ending(Side.CLIENT, 1000, text)
    return session


async def test_every_field(caplog: pytest.LogCaptureFixture, mock_clock: MockClock) -> None:
    record(full("t"))
    made = json.loads(logs.JsonFormatter().format(caplog.records[0]))
    for volatile in ("time", "level", "logger", "message"):
        del made[volatile]
    assert made == {
        "client": "192.0.2.7",
        "address": "203.0.113.9",
        "request": "GET /t",
        "phase": "relay",
        "duration": 0.0,
        "by": "client",
        "reason": "t",
        "code": 1000,
        "messages_in": 1,
        "messages_out": 0,
        "request_id": "id-1",
        "user": "t",
        "application": "t",
        "api": "t",
        "version": "t",
        "topic": "t",
        "vhost": "t",
        "backend": "ws://b:80",
        "status": 101,
        "frames_in": 1,
        "frames_out": 0,
        "octets_in": 6,
        "octets_out": 0,
    }


@pytest.mark.parametrize("formatter", [logs.LineFormatter(), logs.JsonFormatter()])
async def test_what_peers_send_stays_one_short_line(
    formatter: logging.Formatter, caplog: pytest.LogCaptureFixture, mock_clock: MockClock
) -> None:
    session = full(EVIL)
    record(session)
    for line in (formatter.format(caplog.records[0]), reference(session)):
        assert len(line.splitlines()) == 1
        assert len(line.encode()) < 20_000
        assert "\x1b" not in line


async def test_the_shape_of_the_reference(mock_clock: MockClock) -> None:
    session = full("t")
    session.info = RequestInfo("h", "h:9090", "it's me", "", "192.0.2.7")
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] 'GET /t /t HTTP/1\.1' 101 - 6 0 0 -"
        r" '-' 'it\\x27s me' 'id-1' 'h:9090' 'b:80'",
        reference(session),
    )
    refused = Session("192.0.2.7")
    refused.request, refused.status, refused.code = "GET /t", 401, "900901"
    refused.phase = Phase.AUTHENTICATE
    assert "'GET - /t HTTP/1.1' 401 UAEX 0 0 0 -" in reference(refused)


async def test_the_reference_shape_goes_to_standard_output_and_off_is_off(
    capsys: pytest.CaptureFixture[str], mock_clock: MockClock
) -> None:
    with configured("error"):
        record(full("t"), "reference")
        record(full("t"), "off")
        out, err = capsys.readouterr()
        assert out.count("\n") == 1
        assert out.startswith("[")
        assert err == ""
