"""The sessions that were ended before their time: a file that all workers read.

Each line is the id of a session and when it would have ended in any case. The file is looked at
with every request of a session, so that a log-out holds in all workers at once, and in those that
start later. Without a place for the file the list is that of this process alone.
"""

from __future__ import annotations

import fcntl
import logging
from typing import TYPE_CHECKING

import trio

from trio_gw.feed.atomic_file import replacing
from trio_gw.portal.session_token import LONGEST

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("trio_gw.portal")

NAME = "logouts"
MAX_ENDED = 100_000  # sessions; further ones displace the oldest
SLOW = 5.0  # seconds for the file


class Logouts:
    """The ended sessions. `folder` may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / NAME
        self._seen: tuple[int, int, int] | None = None
        self._ended: dict[str, float] = {}
        self._own: dict[str, float] = {}  # also those that could not be written
        self._limiter = trio.CapacityLimiter(1)

    async def has(self, session: str) -> bool:
        """Return whether a session was ended, in any worker."""
        if session in self._own:
            return True
        with trio.move_on_after(SLOW):
            await trio.to_thread.run_sync(
                self._refresh, limiter=self._limiter, abandon_on_cancel=True
            )
            return session in self._ended
        # A disk that hangs must not let anybody in.
        return True

    async def add(self, session: str, now: float) -> None:
        """End a session."""
        self._own[session] = now + LONGEST
        while len(self._own) > MAX_ENDED or next(iter(self._own.values())) < now:
            del self._own[next(iter(self._own))]
        with trio.move_on_after(SLOW):
            await trio.to_thread.run_sync(
                self._write, session, now, limiter=self._limiter, abandon_on_cancel=True
            )

    def _refresh(self) -> None:
        try:
            found = self._file.stat()
        except OSError:
            self._ended, self._seen = {}, None
            return
        seen = found.st_ino, found.st_mtime_ns, found.st_size
        if seen != self._seen:
            self._ended, self._seen = self._read(), seen

    def _read(self) -> dict[str, float]:
        try:
            lines = self._file.read_text("ascii", "replace").splitlines()
        except OSError:
            return {}
        ended = {}
        for line in lines[-MAX_ENDED:]:
            session, _, until = line.partition(" ")
            if until.isdigit():
                ended[session] = float(until)
        return ended

    def _write(self, session: str, now: float) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / f"{NAME}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                ended = {one: until for one, until in self._read().items() if until >= now}
                ended[session] = now + LONGEST
                lines = (f"{one} {int(until)}\n".encode() for one, until in ended.items())
                with replacing(self._file, 0o600) as file:
                    file.writelines(lines)
        except OSError as error:
            log.warning("a log-out holds in this worker only: %s: %s", self._file, error)
