"""What no client sends, for any listener: broken HTTP, TLS that is none, sudden ends."""

from __future__ import annotations

import logging
import socket
import struct
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import pytest


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """List what only a fault of the gateway's own may cause: tracebacks, and errors."""
    return [
        caplog.handler.format(record)
        for record in caplog.records
        if record.exc_info or record.levelno >= logging.ERROR
    ]


async def ended(stream: trio.abc.Stream, within: float = 20.0) -> bool:
    """Read until the gateway ends the connection; tells whether it has by then."""
    with trio.move_on_after(within):
        try:
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass
        return True
    return False


def reset(stream: trio.SocketStream) -> None:
    """End a connection without a word, as a machine that has lost its power does."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def client_hello(name: bytes) -> bytes:
    """Write the first message of a TLS 1.2 client that asks for this host name, unchecked."""

    def sized(data: bytes, octets: int) -> bytes:
        return len(data).to_bytes(octets, "big") + data

    def extension(number: int, data: bytes) -> bytes:
        return number.to_bytes(2, "big") + sized(data, 2)

    extensions = (
        extension(0, sized(b"\x00" + sized(name, 2), 2))
        + extension(10, sized(b"\x00\x1d\x00\x17", 2))
        + extension(13, sized(b"\x08\x04\x04\x01\x04\x03", 2))
    )
    suites = b"\xc0\x2f\xc0\x30\xc0\x2b\xc0\x2c"
    hello = b"\x03\x03" + bytes(32) + sized(b"", 1) + sized(suites, 2) + sized(b"\x00", 1)
    handshake = b"\x01" + sized(hello + sized(extensions, 2), 3)
    return b"\x16\x03\x01" + sized(handshake, 2)
