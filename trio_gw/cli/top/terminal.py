"""Reads keys from the terminal, without an echo. Restores the terminal at the end."""

from __future__ import annotations

import codecs
import os
import sys
import termios
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

MOST = 1024  # bytes at one time
LATE = 0.05  # seconds to wait for the rest of an escape sequence
_KEYS = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x1b": "esc",
    "\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down",
}  # fmt: skip


class Keys:
    """Keys of standard input, or of the controlling terminal if that is not a terminal."""

    def __init__(self) -> None:
        """Raises OSError if there is no terminal."""
        self._own = -1
        if sys.stdin is not None and sys.stdin.isatty():
            self._descriptor = sys.stdin.fileno()
        else:
            self._descriptor = self._own = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> Keys:
        self._before = termios.tcgetattr(self._descriptor)
        wanted = termios.tcgetattr(self._descriptor)
        wanted[3] &= ~(termios.ECHO | termios.ICANON)
        special = wanted[6]
        special[termios.VMIN], special[termios.VTIME] = 1, 0
        # Ctrl-Z would return to the shell with our screen.
        special[termios.VSUSP] = b"\0"
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, wanted)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # Discard keys that were not read.
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        except termios.error:
            pass  # the terminal is gone
        finally:
            if self._own >= 0:
                os.close(self._own)

    async def pressed(self) -> AsyncGenerator[str, None]:
        """Yield keys, by name or as a character. Ends when the terminal is closed."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := await self._read():
            text = decoder.decode(data)
            if text.endswith(("\x1b", "\x1b[", "\x1bO")):
                with trio.move_on_after(LATE):
                    text += decoder.decode(await self._read())
            for key in split(text):
                yield key

    async def _read(self) -> bytes:
        await trio.lowlevel.wait_readable(self._descriptor)
        try:
            return os.read(self._descriptor, MOST)
        except OSError:
            return b""


def split(text: str) -> list[str]:
    """Split terminal input into keys; unknown sequences are dropped."""
    keys, at = [], 0
    while at < len(text):
        end = at + 1
        if text[at] == "\x1b" and text[at + 1 : at + 2] in ("[", "O"):
            end += 1
            while end < len(text) and not "@" <= text[end] <= "~":
                end += 1
            end += 1
        key = text[at:end]
        if len(key) == 1:
            keys.append(_KEYS.get(key, key))
        elif key in _KEYS:
            keys.append(_KEYS[key])
        at = end
    return keys
