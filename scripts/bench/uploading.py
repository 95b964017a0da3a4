"""Measure a large upload beside a connection that exchanges messages: memory and latency.

    python scripts/bench/uploading.py [MEBIBYTES] [ROUNDS]

In each round a client exchanges messages for the duration of an upload, first without an upload,
then beside one. Another process uploads. Prints
the time of a message, median and 99th percentile, and by how much the gateway's memory grew.
"""

from __future__ import annotations

import datetime
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio
from deploying import SIZE, Gateway, Load, exactly

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.adminapi import BASE, BASIC, BOUNDARY, AdminClient, form
from support.crashes import start
from support.projects import api, asyncapi, write
from trio_gw.guard.certificates import ensure_certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAUSE = 0.002  # seconds between two messages
WAYS = ("alone", "beside")
UPLOAD = "upload"  # the command of the process that uploads


class Found(NamedTuple):
    """The measurements of one turn."""

    seconds: float
    times: list[float]
    growth: float


async def upload(base: Path, port: int, way: str) -> None:
    """Deploy the large zip."""
    path = base / "large.zip"
    start_of, _, end = form(b"")[0].partition(b"\r\n\r\n")

    async def pieces() -> AsyncIterator[bytes]:
        yield start_of + b"\r\n\r\n"
        with open(path, "rb") as file:  # noqa: ASYNC230 - from the cache
            while piece := file.read(65536):
                yield piece
        yield end

    context = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
    client = AdminClient(Gateway(0, port, [], context))
    size = path.stat().st_size + len(start_of) + 4 + len(end)
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    headers = {"Authorization": BASIC, "Content-Type": kind}
    answer = await client.ask("POST", f"{BASE}/apis?override=true", headers, pieces(), size)
    assert answer.status == 200, answer.raw


def resident(pid: int) -> float:
    """Return the memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def converse(
    stream: trio.SocketStream, pid: int, seconds: float, way: str, port: int
) -> Found:
    """Exchange messages during an upload, or for some seconds."""
    times: list[float] = []
    before = most = resident(pid)
    begun = time.perf_counter()
    process = None
    if way != "alone":
        command = [sys.executable, __file__, UPLOAD, str(port), way]
        process = subprocess.Popen(command)  # noqa: ASYNC220 - it takes a moment
    while process.poll() is None if process else time.perf_counter() - begun < seconds:
        sent = time.perf_counter()
        await stream.send_all(bytes((0x82, 0x80 | SIZE, 0, 0, 0, 0)) + bytes(SIZE))
        assert await exactly(stream, 2 + SIZE) == bytes((0x82, SIZE)) + bytes(SIZE)
        times.append(time.perf_counter() - sent)
        most = max(most, resident(pid))
        await trio.sleep(PAUSE)
    assert process is None or process.returncode == 0
    return Found(time.perf_counter() - begun, times, most - before)


async def measure(base: Path, rounds: int) -> dict[str, list[Found]]:
    """Take turns."""
    found: dict[str, list[Found]] = {way: [] for way in WAYS}
    async with trio.open_nursery() as nursery:
        backends = await nursery.start(trio.serve_tcp, Load().echo, 0)
        url = f"ws://127.0.0.1:{backends[0].socket.getsockname()[1]}"
        topics = asyncapi({"/*": {"publish": {}, "x-auth-type": "None"}})
        write(base / "apis", "steady", api("Steady", "/steady", url), topics)
        project = write(base / "aside", "chat", api("Chat", "/chat", url), topics)
        with zipfile.ZipFile(base / "large.zip", "a", zipfile.ZIP_STORED) as large:
            for each in project.rglob("*"):
                large.write(each, f"chat/{each.relative_to(project)}")
        process, ports = await trio.to_thread.run_sync(start, base)
        context = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
        gateway = Gateway(ports["http"], ports["admin"], [], context)
        try:
            stream, status = await gateway.handshake("/steady/1.0.0/x")
            assert status == 101, status
            seconds = 3.0
            for _ in range(rounds):
                for way in WAYS:
                    one = await converse(stream, process.pid, seconds, way, ports["admin"])
                    found[way].append(one)
                    seconds = one.seconds
        finally:
            process.send_signal(signal.SIGTERM)
            await trio.to_thread.run_sync(process.wait)
        nursery.cancel_scope.cancel()
    return found


def main() -> None:
    """Measure in a temporary folder, or run as the process that uploads."""
    if sys.argv[1:2] == [UPLOAD]:
        trio.run(upload, Path.cwd(), int(sys.argv[2]), sys.argv[3])
        return
    mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        os.chdir(base)
        for name in ("apis", "certs"):
            (base / name).mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        with zipfile.ZipFile(base / "large.zip", "w", zipfile.ZIP_STORED) as large:
            noise = os.urandom(1 << 20)
            for number in range(mebibytes):
                large.writestr(f"chat/Docs/{number}.pdf", noise)
        found = trio.run(measure, base, rounds)
    for way, turns in found.items():
        times = sorted(taken * 1e3 for turn in turns for taken in turn.times)
        print(
            f"{way:9} {statistics.median(turn.seconds for turn in turns):5.1f} s,"
            f" {len(times)} messages: median {statistics.median(times):.2f} ms,"
            f" p99 {times[len(times) * 99 // 100]:.2f} ms, worst {times[-1]:.1f} ms;"
            f" memory +{max(turn.growth for turn in turns):.1f} MiB"
        )


if __name__ == "__main__":
    main()
