"""The servers of `servers.py`, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from support import servers


class running:
    """Run one server in a process of its own."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._process: trio.Process | None = None

    async def __aenter__(self) -> str:
        command = [sys.executable, "-P", str(Path(servers.__file__)), self._kind]
        self._process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        pipe = self._process.stdout
        assert pipe is not None
        said = b""
        with trio.fail_after(60):
            while not said.endswith(b"\n"):
                data = await pipe.receive_some()
                assert data, "the server ended"
                said += data
        return f"ws://127.0.0.1:{int(said)}"

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
            assert self._process.stdout is not None
            await self._process.stdout.aclose()
