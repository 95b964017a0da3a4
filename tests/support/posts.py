"""Requests with a body on one connection, as servers of the tests take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio


class Posts:
    """Reads them one after the other."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = b""

    async def next(self) -> tuple[list[bytes], bytes] | None:
        """Return the lines of the head, in lower case, and the body; None at the end."""
        while b"\r\n\r\n" not in self._data:
            if not (more := await self._stream.receive_some()):
                return None
            self._data += more
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        (size,) = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        while len(self._data) < size:
            more = await self._stream.receive_some()
            assert more
            self._data += more
        body, self._data = self._data[:size], self._data[size:]
        return lines, body
