"""HTTP/2 at the admin listener: room for uploads, frames that come too late, and the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from support.adminapi import BASE, BASIC, BOUNDARY, AdminClient
from support.gateway import RunningGateway, start_gateway
from trio_gw.admin import drain, http2, server

if TYPE_CHECKING:
    from pathlib import Path

FORM = f"multipart/form-data; boundary={BOUNDARY}"


class Talk:
    """One HTTP/2 connection, frame by frame."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    async def ask(self, number: int, method: str, path: str, **headers: str) -> None:
        """Send the head of a request; with a body to come unless it is a GET."""
        pseudo = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        fields = [*pseudo.items(), *headers.items()]
        self.h2.send_headers(number, fields, end_stream=method == "GET")
        await self.flush()

    async def events(self) -> list[h2.events.Event]:
        with trio.fail_after(10):
            data = await self.stream.receive_some()
        assert data, "the gateway closed the connection"
        found = self.h2.receive_data(bytes(data))
        await self.flush()
        return list(found)

    async def status(self, number: int) -> int:
        """Read to the end of the answer on this stream."""
        status = 0
        while True:
            for event in await self.events():
                if getattr(event, "stream_id", 0) != number:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(event.headers[0][1])  # :status comes first
                elif isinstance(event, h2.events.StreamEnded):
                    return status


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_gateway(nursery, base, admin=True)


async def test_windows_are_wide(gateway: RunningGateway) -> None:
    talk = Talk(await AdminClient(gateway, http2=True).connect())
    await talk.ask(1, "POST", f"{BASE}/apis", **{"authorization": BASIC, "content-type": FORM})
    while talk.h2.local_flow_control_window(1) < http2.WINDOW:
        await talk.events()
    assert talk.h2.max_outbound_frame_size == http2.FRAME
    # What the windows let through unasked is taken, though nothing was said in between.
    sent = 0
    while room := min(talk.h2.local_flow_control_window(1), http2.FRAME):
        talk.h2.send_data(1, bytes(room))
        await talk.flush()
        sent += room
    assert sent == http2.WINDOW
    talk.h2.end_stream(1)
    await talk.flush()
    assert await talk.status(1) == 400


async def test_data_for_what_has_been_answered_is_dropped(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drain, "LEFTOVER", 1 << 16)
    talk = Talk(await AdminClient(gateway, http2=True).connect())
    await talk.ask(1, "POST", f"{BASE}/apis", **{"content-type": FORM})
    while talk.h2.local_flow_control_window(1) < http2.WINDOW:
        await talk.events()
    for _ in range(4):
        talk.h2.send_data(1, bytes(1 << 15))
    await talk.flush()
    assert await talk.status(1) == 401
    talk.h2.send_data(1, bytes(1 << 15))
    await talk.ask(3, "GET", "/swagger.json")
    assert await talk.status(3) == 200
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_who_has_gone_takes_no_place(gateway: RunningGateway) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(3):
        talk = Talk(await AdminClient(gateway, http2=True).connect())
        await talk.ask(1, "GET", "/swagger.json")
        assert await talk.status(1) == 200
        await trio.aclose_forcefully(talk.stream)
    with trio.fail_after(server.IDLE / 2):
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.lowlevel.checkpoint()
