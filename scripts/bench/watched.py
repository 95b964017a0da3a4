"""`trio-gw` with one addition: on SIGUSR1 it prints the number of its Trio tasks."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import trio

from trio_gw.__main__ import main

if TYPE_CHECKING:
    from types import FrameType


def tell(number: int, frame: FrameType | None) -> None:
    """Print the number of tasks."""
    os.write(1, b"%d\n" % trio.lowlevel.current_statistics().tasks_living)


signal.signal(signal.SIGUSR1, tell)
sys.exit(main(sys.argv[1:]))
