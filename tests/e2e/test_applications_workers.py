"""Registered applications in several workers, and a registry whose writers are killed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import connect

from support.applications import FORM, change, register
from support.backends import start_echo
from support.gateway import Answer
from support.projects import api, asyncapi, write
from support.registry_crashes import kill_writers
from support.secrets import secret
from support.workers import start_workers
from trio_gw.config import registry_changes as changes
from trio_gw.config.registry_changes import SubscribedApi

if TYPE_CHECKING:
    from pathlib import Path

    from support.applications import Client
    from support.commands import Serving

ROOMS = SubscribedApi("rooms-id", "Rooms", "1.0.0", "/rooms/1.0.0")
WORKERS, CONNECTIONS = 3, 9


async def token_at(port: int, client: Client) -> Answer:
    """Ask whichever worker accepts for a token."""
    body = (
        f"grant_type=client_credentials&client_id={client.consumer_key}"
        f"&client_secret={client.secret}"
    ).encode()
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    got = bytearray()
    async with stream:
        head = b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\n"
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        await stream.send_all(head + FORM + length + body)
        while data := await stream.receive_some():
            got += data
    return Answer(bytes(got))


async def test_all_workers_follow(
    base: Path, running: list[Serving], nursery: trio.Nursery
) -> None:
    echo = await start_echo(nursery)
    meta = api("Rooms", "/rooms", echo.url, id=ROOMS.id)
    write(base / "apis", "Rooms", meta, asyncapi({"/a": {"publish": {}}}))
    group = await start_workers(base, running, echo.url, WORKERS)
    client = register(base, ROOMS)
    # Each worker issues tokens for a key at once, although another process has made it.
    answers = [await token_at(group.port, client) for _ in range(WORKERS * 2)]
    assert {answer.status for answer in answers} == {200}
    tokens = [secret(str(answer.json()["access_token"])) for answer in answers]
    began: list[float] = []
    opened: list[int] = []
    all_open = trio.Event()

    async def stay(token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"ws://127.0.0.1:{group.port}/rooms/1.0.0/a"
        accepted = False
        while not accepted:  # a worker may follow a quarter of a second later
            with contextlib.suppress(InvalidStatus):
                async with connect(url, additional_headers=headers, proxy=None) as socket:
                    accepted = True
                    opened.append(1)
                    if len(opened) == CONNECTIONS:
                        all_open.set()
                    with trio.fail_after(20), pytest.raises(ConnectionClosed) as caught:
                        await socket.recv()
        assert time.monotonic() - began[0] < 1.5
        assert caught.value.rcvd is not None
        reason = caught.value.rcvd.code, caught.value.rcvd.reason
        assert reason == (1008, "subscription blocked")

    async with trio.open_nursery() as clients:
        for number in range(CONNECTIONS):
            clients.start_soon(stay, tokens[number % len(tokens)])
        with trio.fail_after(20):
            await all_open.wait()
        began.append(time.monotonic())
        change(
            base,
            lambda current: changes.subscribe(
                current, client.uuid, ROOMS, tier=None, state="BLOCKED", now=int(time.time())
            ),
        )
    assert len(opened) == CONNECTIONS


def test_what_was_acknowledged_survives(tmp_path: Path) -> None:
    assert kill_writers(tmp_path / "portal", rounds=6, seed=3) >= 6
