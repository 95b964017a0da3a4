"""A gateway whose log nobody reads serves, stops in time, and says later what was lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from support.commands import Serving, environment, port_of, start
from support.gateway import Answer

if TYPE_CHECKING:
    from pathlib import Path

READY = "listening on https://[", "trio_gw: ready"
MANY = 200  # requests whose lines are twice what a pipe takes
LOST = 1600  # ... and more than what the queue takes besides


async def ask(port: int) -> int:
    """Ask for what is not there: a line of the log of more than 1,000 octets tells of it."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    got = bytearray()
    async with stream:
        await stream.send_all(b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 1000))
        while data := await stream.receive_some():
            got += data
    return Answer(bytes(got)).status


async def ask_often(port: int, times: int) -> None:
    async def some() -> None:
        for _ in range(times // 4):
            assert await ask(port) == 404

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(some)


async def ready(serving: Serving, workers: int) -> int:
    """Read the log until all workers serve; return the port."""
    if workers == 1:
        return port_of(await serving.read_until("err", READY[0]))
    return port_of(await serving.read_until("err", READY[1], workers))


async def stop(serving: Serving) -> int:
    """Send SIGTERM; return the exit code without having read anything."""
    serving.process.send_signal(signal.SIGTERM)
    with trio.fail_after(20):
        return await serving.process.wait()


@pytest.mark.parametrize(("workers", "access"), [(1, "own"), (1, "reference"), (2, "own")])
async def test_nobody_reads_the_log(
    base: Path, running: list[Serving], workers: int, access: str
) -> None:
    (base / "gateway.toml").write_text(f'workers = {workers}\n[log]\naccess = "{access}"\n')
    serving = await start(base, "run")
    running.append(serving)
    port = await ready(serving, workers)
    await ask_often(port, MANY)
    assert await stop(serving) == 0


async def test_the_supervisor_reads_its_settings_while_nobody_reads_the_log(
    base: Path, running: list[Serving]
) -> None:
    workers = 2
    file = base / "gateway.toml"
    file.write_text(f"workers = {workers}\n")
    serving = await start(base, "run")
    running.append(serving)
    port = await ready(serving, workers)
    await ask_often(port, MANY)
    file.write_text("workers = 3\nunknown = true\n")
    serving.process.send_signal(signal.SIGHUP)
    assert await ask(port) == 404
    assert await stop(serving) == 0


async def test_a_socket_as_systemd_gives_one(base: Path) -> None:
    ours, theirs = trio.socket.socketpair()
    with ours:
        with theirs:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "trio_gw", "run"],
                cwd=base,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=theirs.fileno(),
                stderr=theirs.fileno(),
            )
        try:
            log = ""
            with trio.fail_after(20):
                while READY[0] not in log:
                    log += (await ours.recv(4096)).decode()
            await ask_often(port_of(log), 2 * MANY)
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(20):
                assert await process.wait() == 0
        finally:
            process.kill()
            await process.wait()


async def test_what_was_lost_is_told_when_it_flows_again(
    base: Path, running: list[Serving]
) -> None:
    serving = await start(base, "run")
    running.append(serving)
    port = await ready(serving, 1)
    await ask_often(port, LOST)
    log = await serving.read_until("err", "dropped because standard error could not be written\n")
    (told,) = (line for line in log.splitlines() if "were dropped" in line)
    count = int(told.split(" log lines were dropped")[0].split()[-1])
    # Every line of a request is there, or counted.
    kept = serving.err.count(" answered 404 ")
    assert kept + count == LOST
    assert await ask(port) == 404  # and now it flows
    await serving.read_until("err", " answered 404 ", kept + 1)
    serving.process.terminate()
    assert "stopping" in (await serving.rest()).splitlines()[-1]
    assert await serving.process.wait() == 0


@pytest.mark.parametrize(("closed", "stream"), [("<&- 2>&-", "out"), ("<&- >&-", "err")])
async def test_closed_standard_streams(
    base: Path, running: list[Serving], closed: str, stream: str
) -> None:
    """Neither a socket nor a file may come to stand where lines are written to."""
    process = await trio.lowlevel.open_process(
        ["/bin/sh", "-c", f"exec {sys.executable} -m trio_gw run --to ws://localhost:9 {closed}"],
        env=environment(),
        cwd=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    serving = Serving(process)
    running.append(serving)
    await serving.read_until(stream, "is ready" if stream == "out" else READY[0])
    for fd in (0, 2 if stream == "out" else 1):
        assert os.readlink(f"/proc/{process.pid}/fd/{fd}") == "/dev/null"
    assert await stop(serving) == 0


async def test_why_it_cannot_start_is_the_last_line(base: Path, running: list[Serving]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        serving = await start(base, "run", TRIO_GW_LISTEN_HTTP=taken)
        running.append(serving)
        log = await serving.rest()
    assert await serving.process.wait() == 1
    assert "in use" in log.splitlines()[-1]
