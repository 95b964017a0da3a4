"""`trio-gw` as people run it: a process, its output and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import trio

from support.secrets import secret, wrote

if TYPE_CHECKING:
    from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """The tests' own environment, with the gateway on free ports."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIO_GW_")}
    return {
        **clean,
        "TRIO_GW_LISTEN_HTTP": "localhost:0",
        "TRIO_GW_LISTEN_HTTPS": "localhost:0",
        "TRIO_GW_LOG_FORMAT": "text",
        "TRIO_GW_LISTEN_ADMIN": "localhost:0",
        "TRIO_GW_PORTAL_LOCAL": "localhost:0",
        "PYTHONWARNINGS": "error",
        **more,
    }


def gw(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in `folder`."""
    for name, value in more.items():
        if name.endswith(("PASSWORD", "SECRET")):
            secret(value)
    done = subprocess.run(
        [sys.executable, "-m", "trio_gw", *arguments],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    wrote(done.stderr, f"standard error of {arguments[:1]}")
    if arguments[:1] not in (("token",), ("convert",), ("hash-password",)):  # they are to tell
        wrote(done.stdout, f"output of {arguments[:1]}")
    return done


class Serving:
    """A `trio-gw run` or `echo` in its own process."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = self.err = ""

    async def read_until(self, stream: str, text: str, times: int = 1) -> str:
        """Read `out` or `err` until it holds `text` so often; fails when that takes 20 s."""
        pipe = self.process.stdout if stream == "out" else self.process.stderr
        assert pipe is not None
        with trio.fail_after(60):
            while getattr(self, stream).count(text) < times:
                data = await pipe.receive_some()
                assert data, f"ended: {self.out}{self.err}"
                setattr(self, stream, getattr(self, stream) + data.decode())
        wrote(self.err, "standard error of a process")
        return str(getattr(self, stream))

    async def rest(self) -> str:
        """Read standard error to its end."""
        assert self.process.stderr is not None
        with trio.fail_after(60):
            while data := await self.process.stderr.receive_some():
                self.err += data.decode()
        wrote(self.err, "standard error of a process")
        return self.err


async def start(folder: Path, *arguments: str, **more: str) -> Serving:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "trio_gw", *arguments],
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return Serving(process)


def port_of(text: str, scheme: str = "http") -> int:
    """Find the port in a log line about listening."""
    line = next(line for line in text.splitlines() if f"listening on {scheme}://127" in line)
    return int(line.rpartition(":")[2])
