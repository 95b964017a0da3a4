"""Where the embedded echo backend of this gateway listens, for those who offer it as a backend.

The command announces it before the worker processes are made, so that all of them know it.
"""

from __future__ import annotations

_announced: list[str] = []


def announce(host: str, port: int) -> None:
    """Say that the echo backend listens there."""
    name = f"[{host}]" if ":" in host else host or "localhost"
    _announced[:] = [f"ws://{name}:{port}"]


def url() -> str:
    """Return the URL of the echo backend; empty if none runs."""
    return _announced[0] if _announced else ""
