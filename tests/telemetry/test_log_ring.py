"""The last log lines in memory: both formats, bounded, secrets masked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from trio_gw.telemetry import log_ring, logs
from trio_gw.telemetry.log_ring import LogRing, masked

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["text", "json"])
def ring(request: pytest.FixtureRequest) -> Iterator[LogRing]:
    """Return the ring of this process, filled by logs of either format."""
    logs.configure("INFO", "", request.param)
    log_ring.ring.clear()
    yield log_ring.ring
    log_ring.ring.clear()
    logs.configure()


def test_lines_of_both_formats_are_shown_alike(ring: LogRing) -> None:
    logging.getLogger("trio_gw.feed").warning("apis/Chat: %s", "is broken")
    logger = logging.getLogger("trio_gw.connection")
    logs.event(logger, logging.INFO, "1.2.3.4 GET /x ended", {"code": 1000}, {"api": "Chat"})
    first, second = ring.shown(2)
    assert (first.level, first.logger, first.text) == (
        logging.WARNING,
        "trio_gw.feed",
        "apis/Chat: is broken",
    )
    assert first.worker == 2
    assert second.text.startswith("1.2.3.4 GET /x ended")
    assert "api=Chat" in second.text
    assert first.at <= second.at
    assert [line.logger for line in ring.shown(1, level=logging.WARNING)] == ["trio_gw.feed"]
    assert [line.logger for line in ring.shown(1, match="CHAT: IS")] == ["trio_gw.feed"]
    assert len(ring.shown(1, logger="trio_gw.conn")) == 1


def test_many_connections_do_not_push_out_a_warning() -> None:
    kept = LogRing(10)
    kept.append(1.0, logging.WARNING, "trio_gw.feed", "x trio_gw.feed: warning: broken")
    for number in range(100):
        kept.append(2.0 + number, logging.INFO, "trio_gw.connection", "y" * 10_000)
    shown = kept.shown(1)
    assert shown[0].text == "broken"
    assert len(shown) == 11
    assert max(len(line.text) for line in shown) == log_ring.MAX_LINE


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "authorization: basic {}",
        'password="{}"',
        "client_secret={}&x=1",
        '{{"token": "{}"}}',
        "https://user:{}@host/",
        "x-api-key apikey: {}",
        "token eyJhbGciOiJSUzI1NiJ9.eyJ{}.c2lnbmF0dXJl",
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    shown = masked(text.format("aGVsbG8td29ybGQ"))
    assert "aGVsbG8td29ybGQ" not in shown
    assert "***" in shown
    assert masked("the token is revoked, 12 connections") == "the token is revoked, 12 connections"
