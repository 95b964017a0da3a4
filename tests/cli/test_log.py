"""The log of `trio-gw run`: its format, and its level that changes while it runs."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from support.commands import Serving, port_of, start
from support.gateway import Answer

if TYPE_CHECKING:
    from pathlib import Path


async def get(port: int, path: str, headers: str = "") -> Answer:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    got = bytearray()
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        while data := await stream.receive_some():
            got += data
    return Answer(bytes(got))


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_hangup_takes_over_the_level(
    workers: int, base: Path, running: list[Serving]
) -> None:
    def write(level: str) -> None:
        file.write_text(f'workers = {workers}\n[log]\nlevel = "{level}"\n')

    file = base / "gateway.toml"
    write("info")
    serving = await start(base, "run")
    running.append(serving)
    log = await serving.read_until("err", " ready" if workers > 1 else "listening on https://[")
    port = port_of(log)
    await get(port, "/health", "x-request-id: before\r\n")
    write("debug")
    while serving.err.count("log level is debug") < workers:
        serving.process.send_signal(signal.SIGHUP)
        with trio.move_on_after(0.5):
            await serving.read_until("err", "\0")
    await get(port, "/health", "x-request-id: after\r\n")
    await serving.read_until("err", "request_id=after")
    write("bad")
    serving.process.send_signal(signal.SIGHUP)
    await serving.read_until("err", "log.level: 'bad' is not known")
    write("error")
    while serving.err.count("log level is error") < workers:
        serving.process.send_signal(signal.SIGHUP)
        with trio.move_on_after(0.5):
            await serving.read_until("err", "\0")
    await get(port, "/nowhere", "x-request-id: last\r\n")
    serving.process.terminate()
    log = await serving.rest()
    assert "request_id=before" not in log
    assert "request_id=last" not in log


async def test_json_without_a_terminal(base: Path, running: list[Serving]) -> None:
    serving = await start(base, "run", TRIO_GW_LOG_FORMAT="auto")
    running.append(serving)
    log = await serving.read_until("err", "listening on https://[")
    (said,) = [
        one
        for one in map(json.loads, log.splitlines()[:-1])
        if "listening on http://127" in one["message"]
    ]
    answer = await get(int(said["message"].rpartition(":")[2]), "/nowhere")
    log = await serving.read_until("err", '"status":404')
    line = json.loads(next(line for line in log.splitlines() if '"status":404' in line))
    assert line["logger"] == "trio_gw.connection"
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["request"] == "GET /nowhere"
