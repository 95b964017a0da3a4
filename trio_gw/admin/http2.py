"""What the server's HTTP/2 lacks: room for uploads, an ear for late frames, a quick end.

Its windows are those that HTTP/2 begins with, 64 KiB for each round trip, which a client far away
fills in no time; here they are larger. And a frame with data for a stream that has been answered
is a fault to it that ends the connection, with a traceback in the log; here such data is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercorn.events import RawData
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.tcp_server import TCPServer

if TYPE_CHECKING:
    from hypercorn.protocol.events import Event
    from hypercorn.protocol.http_stream import HTTPStream
    from hypercorn.protocol.ws_stream import WSStream

WINDOW = 1 << 20  # bytes that a client may send unasked, on a connection and on each stream
FRAME = 1 << 16  # bytes of one frame at most
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5  # settings by their numbers (RFC 9113 §6.5.2)
_BEGIN = 65535  # what the windows are at first (RFC 9113 §6.9.2)


class Connection(TCPServer):
    """The server's side of one connection, HTTP/1.1 or HTTP/2."""

    async def _read_data(self) -> None:
        protocol = self.protocol.protocol
        if isinstance(protocol, H2Protocol):
            protocol.streams = _Streams()
            connection = protocol.connection
            connection.update_settings({_INITIAL_WINDOW_SIZE: WINDOW, _MAX_FRAME_SIZE: FRAME})
            connection.increment_flow_control_window(WINDOW - _BEGIN)
            await self.protocol_send(RawData(data=connection.data_to_send()))
        await super()._read_data()
        # The client has gone. Else its place would stay taken for as long as it might be idle.
        await self.idle_task.stop()


class _Streams(dict[int, "HTTPStream | WSStream"]):
    """The streams of a connection by number; for one that is over something that hears nothing."""

    def __missing__(self, number: int) -> _Over:
        return _Over()


class _Over:
    idle = True

    async def handle(self, event: Event) -> None:
        """Drop what comes."""
