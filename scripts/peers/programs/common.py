"""What the Python programs share.

A program is called as `python FILE serve`, which prints "PORT n" when it listens, or
`python FILE NAME`, a client, which ends with 0 after messages went both ways.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BASE = os.environ.get("PEER_BASE", "")
GATEWAY = os.environ.get("PEER_HTTP", "")
TLS_GATEWAY = os.environ.get("PEER_HTTPS", "")
HTTP = GATEWAY + BASE
HTTPS = TLS_GATEWAY + BASE
WS = HTTP.replace("http", "ws", 1)
WSS = HTTPS.replace("http", "ws", 1)
TOKEN = os.environ.get("PEER_TOKEN", "")
CA = os.environ.get("PEER_CA", "")
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def trust() -> ssl.SSLContext:
    """Trust the gateway's certificate alone."""
    return ssl.create_default_context(cafile=CA)


def equal(found: object, wanted: object) -> None:
    """Fail unless both are equal."""
    if found != wanted:
        raise AssertionError(f"{found!r}, not {wanted!r}")


def port_of(url: str) -> int:
    """Return the port of a URL without a path."""
    return int(url.rpartition(":")[2])


def bound() -> socket.socket:
    """Bind a free port of loopback for a server that takes a socket."""
    return socket.create_server(("127.0.0.1", 0))


def free_port() -> int:
    """Find a free port for a server that takes a number only."""
    with bound() as taken:
        return int(taken.getsockname()[1])


def say(port: int) -> None:
    """Tell the runner that the server listens here."""
    print(f"PORT {port}", flush=True)


def supervise(command: Sequence[str | os.PathLike[str]], port: int) -> None:
    """Run a server that takes a port, and tell when it accepts; returns when it ends."""
    process = subprocess.Popen(command, stdout=sys.stderr)
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            say(port)
            break
    sys.exit(process.wait())


def main(functions: dict[str, Callable[[], Any]]) -> None:
    """Run the function that the command line names."""
    made = functions[sys.argv[1]]()
    if inspect.iscoroutine(made):
        asyncio.run(made)
