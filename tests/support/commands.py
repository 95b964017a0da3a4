"""The command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from support.secrets import wrote

if TYPE_CHECKING:
    from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """The tests' own environment, with the gateway on free ports."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIO_GW_")}
    return {
        **clean,
        "TRIO_GW_LISTEN_HTTP": "localhost:0",
        "TRIO_GW_LISTEN_HTTPS": "localhost:0",
        "PYTHONWARNINGS": "error",
        **more,
    }


def gw(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in `folder`."""
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
    if arguments[:1] != ("token",):
        wrote(done.stdout, f"output of {arguments[:1]}")
    return done
