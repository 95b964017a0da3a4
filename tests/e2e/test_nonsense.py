"""Whatever peers send to a listener of traffic or metrics, the log holds no traceback of it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import trio

from support.gateway import start_gateway
from support.heads import GOOD, MALFORMED
from support.nonsense import client_hello, ended, faults, reset

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NAMES = (b"\xff\xfe", b"a..b", b".", b"\x01", b"x" * 250, "é.example".encode(), b"localhost")


async def test_nonsense_and_resets_leave_no_traceback(
    nursery: trio.Nursery, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in a callback of OpenSSL would fail the test as a warning, too."""
    pair = {"cert": "certs/mg.pem", "key": "certs/mg.key", "hosts": ["other.example"]}
    gateway = await start_gateway(
        nursery,
        base,
        admin=True,
        tls={"certificates": [pair]},
        metrics={"listen": "localhost:0"},
        timeouts={"head": 2.0},
    )
    caplog.set_level(logging.DEBUG)
    sent = [data for data, _ in list(MALFORMED.values())[::6]]
    hellos = [client_hello(name) for name in NAMES]
    for port, messages in (
        (gateway.port, [*sent, *hellos[:1]]),
        (gateway.metrics_port, [*sent, *hellos[:1]]),
        (gateway.tls_port, [*sent[::3], *hellos]),
        (gateway.admin_port, [*sent[::3], *hellos]),
    ):
        streams = []
        for data in (*messages, GOOD, GOOD[:-3], b""):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            gateway.opened.append(stream)
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            streams.append(stream)
        for place, stream in enumerate(streams):
            if place % 2:
                await ended(stream, 0.01)
            reset(stream)
    assert (await gateway.get("/health")).status == 200
    assert faults(caplog) == []
