"""`trio-gw run` that notes what its event loop does that may block.

    python -m support.audited REPORT run …

From SIGUSR1 on, every event that may wait for a file system, a name server or another program, and
that happens in the thread of the loop, is one line of REPORT: the event, and the line of the
gateway's code that led to it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from trio_gw.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = f"{os.sep}trio_gw{os.sep}"
EVENTS = (
    *("open", "os.", "shutil.", "tempfile.", "glob.", "fcntl.flock", "fcntl.lockf", "time.sleep"),
    *("socket.getaddrinfo", "socket.gethost", "socket.getnameinfo", "subprocess.", "pathlib."),
)
QUIET = frozenset(("os.putenv", "os.unsetenv"))  # memory only
CALLS = ("stat", "lstat", "fsync", "readlink", "read", "waitpid", "access", "statvfs")  # no events


def place(frame: FrameType | None) -> str:
    """Name the innermost line of the gateway; of the libraries if there is none."""
    inner = frame
    while frame is not None:
        if PACKAGE in frame.f_code.co_filename:
            file = frame.f_code.co_filename.rpartition(PACKAGE)[2]
            return f"{file}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "?" if inner is None else f"{inner.f_code.co_filename}:{inner.f_code.co_name}"


def watch(report: int) -> None:
    """Install the hook and the wrappers; they are for good."""
    loop = threading.get_ident()
    armed = busy = False

    def arm(_signum: int, _frame: FrameType | None) -> None:
        nonlocal armed
        armed = True
        write(report, b"armed\n")

    def note(event: str, first: object, frame: FrameType | None) -> None:
        nonlocal busy
        if armed and not busy and threading.get_ident() == loop:
            busy = True
            write(report, f"{event} {first!r:.80} {place(frame)}\n".encode())
            busy = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(EVENTS) and event not in QUIET:
            note(event, arguments[0] if arguments else "", sys._getframe(1))

    write = os.write
    for name in CALLS:
        setattr(os, name, _noting(getattr(os, name), note))
    signal.signal(signal.SIGUSR1, arm)
    sys.addaudithook(hook)


def _noting(call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        note(f"os.{call.__name__}", arguments[0] if arguments else "", sys._getframe(1))
        return call(*arguments, **options)

    return noted


if __name__ == "__main__":
    watch(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    sys.exit(main(sys.argv[2:]))
