"""A command on a real terminal: a pty, and the screen as a person would see it (pyte)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import termios
from typing import TYPE_CHECKING

import pyte
import trio

from support.commands import environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path


class Terminal:
    """The other side of a terminal: what a process drew, and keys for it."""

    def __init__(self, process: trio.Process, descriptor: int, width: int, height: int) -> None:
        self.process = process
        self.raw = b""  # everything that it wrote
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self._descriptor = descriptor

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without the blanks at their end."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    async def until(self, seen: str | Callable[[str], bool]) -> str:
        """Read until the screen shows this; fails when that takes 20 s, or the process ends."""
        holds = (lambda text: seen in text) if isinstance(seen, str) else seen
        with trio.move_on_after(20):
            while not holds(self.text):
                if not await self._read():
                    break
            else:
                return self.text
        raise AssertionError(f"{seen!r} was not to be seen on\n{self.text}")

    async def _read(self) -> bytes:
        await trio.lowlevel.wait_readable(self._descriptor)
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # nobody has the other end any more
            return b""
        self.raw += data
        self._stream.feed(data)
        return data

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._descriptor, keys.encode())

    def resize(self, width: int, height: int) -> None:
        """Make the window larger or smaller."""
        self.screen.resize(height, width)
        _size(self._descriptor, width, height)

    async def end(self) -> int:
        """Read to the end; returns the exit code."""
        with trio.fail_after(60):
            while await self._read():
                pass
            return await self.process.wait()

    def modes(self) -> list[object]:
        """Tell how the terminal is set."""
        return termios.tcgetattr(self._descriptor)


def _size(descriptor: int, width: int, height: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    found = environment(**{"TERM": "xterm-256color", **more})
    # What this process runs in is not what the command is to see.
    for name in {"COLUMNS", "COLORTERM", "LINES", "NO_COLOR"} - more.keys():
        found.pop(name, None)
    return found


@contextlib.asynccontextmanager
async def on_terminal(
    folder: Path, *arguments: str, size: tuple[int, int] = (100, 30), environ: Mapping[str, str]
) -> AsyncIterator[Terminal]:
    """Run a command on a terminal of its own, which it controls."""
    ours, theirs = os.openpty()
    _size(ours, *size)

    def take() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trio_gw", *arguments],
            cwd=folder,
            env=_environment(environ),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=take,
        )
    finally:
        os.close(theirs)
    try:
        yield Terminal(process, ours, *size)
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        os.close(ours)
