"""Deny conditions in real worker processes: in all at once, without a restart, and after one."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect

from support.backends import read_head, start_echo
from support.commands import Serving, port_of, start
from support.costs import REQUEST
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 3
CONNECTIONS = 12  # the same number of each worker


async def ready(base: Path, running: list[Serving]) -> tuple[Serving, int]:
    """Start workers, and wait for all of them; returns their port, too."""
    serving = await start(base, "run")
    running.append(serving)
    await serving.read_until("err", "listening on https://[")
    await counted(serving, " trio_gw: ready", WORKERS)
    return serving, port_of(serving.err)


async def counted(serving: Serving, text: str, count: int) -> None:
    """Read until the workers have said this so many times."""
    with trio.fail_after(20):
        while serving.err.count(text) < count:
            assert serving.process.stderr is not None
            serving.err += (await serving.process.stderr.receive_some()).decode()


async def project(base: Path, nursery: trio.Nursery) -> None:
    echo = await start_echo(nursery)
    channels = {"/a": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "one", api("One", "/one", echo.url), asyncapi(channels))


async def statuses(port: int) -> set[bytes]:
    """Make so many handshakes that every worker has its share; returns how they were answered."""
    found = set()
    for _ in range(CONNECTIONS):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(REQUEST)
            with trio.fail_after(10):
                found.add((await read_head(stream))[9:12])
    return found


async def ended(port: int, sent: list[float], all_open: trio.Event, opened: list[int]) -> None:
    """Connect, and hear of the end within a second of what was `sent`."""
    async with connect(f"ws://127.0.0.1:{port}/one/1.0.0/a", proxy=None) as client:
        opened.append(1)
        if len(opened) == CONNECTIONS:
            all_open.set()
        with trio.fail_after(20), pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert time.monotonic() - sent[0] < 1.5
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "address is blocked")


async def test_the_file_counts_in_all_workers_at_once_and_after_a_restart(
    base: Path, running: list[Serving], nursery: trio.Nursery
) -> None:
    await project(base, nursery)
    (base / "gateway.toml").write_text(f"workers = {WORKERS}\n")
    serving, port = await ready(base, running)
    sent: list[float] = []
    all_open = trio.Event()
    opened: list[int] = []
    async with trio.open_nursery() as clients:
        for _ in range(CONNECTIONS):
            clients.start_soon(ended, port, sent, all_open, opened)
        with trio.fail_after(20):
            await all_open.wait()
        sent.append(time.monotonic())
        (base / "certs" / "denied.txt").write_text("address=127.0.0.0/8  # a flood\n")
    await counted(serving, "trio_gw.denials: 1 deny conditions", WORKERS)
    assert await statuses(port) == {b"403"}
    serving.process.terminate()
    await serving.rest()
    assert await serving.process.wait() == 0
    serving, port = await ready(base, running)
    assert await statuses(port) == {b"403"}
    (base / "certs" / "denied.txt").write_text("")
    await counted(serving, "trio_gw.denials: 0 deny conditions", WORKERS)
    assert await statuses(port) == {b"101"}


async def test_the_settings_are_taken_anew_at_sighup(
    base: Path, running: list[Serving], nursery: trio.Nursery
) -> None:
    await project(base, nursery)
    settings = base / "gateway.toml"
    settings.write_text(f"workers = {WORKERS}\n")
    serving, port = await ready(base, running)
    assert await statuses(port) == {b"101"}
    settings.write_text(f'workers = {WORKERS}\n[[deny]]\naddress = "127.0.0.0/8"\n')
    serving.process.send_signal(signal.SIGHUP)
    await counted(serving, "trio_gw.denials: 1 deny conditions", WORKERS)
    assert await statuses(port) == {b"403"}
    settings.write_text(f'workers = {WORKERS}\n[[deny]]\naddress = "127.0.0.0/99"\n')
    serving.process.send_signal(signal.SIGHUP)
    await counted(serving, "the settings do not change", 1)
    assert "gateway.toml:3: deny[0].address: '127.0.0.0/99' is not an IP address" in serving.err
    assert await statuses(port) == {b"403"}
    settings.write_text(f"workers = {WORKERS}\n")
    serving.process.send_signal(signal.SIGHUP)
    await counted(serving, "trio_gw.denials: 0 deny conditions", WORKERS)
    assert await statuses(port) == {b"101"}
