"""Streams an uploaded file (multipart/form-data) to the disk.

At most a quarter of a MiB is held in memory. Only the first file with the given part name is kept;
the rest is read and discarded. Size, time, and the number of parts and header fields are limited.
With `form_token` the only module that uses python-multipart.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, BinaryIO

import trio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from trio_gw.admin.json_responses import FaultError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

# Errors in a form are reported in the response.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

BUFFER = 256 * 1024  # bytes kept before they are written
MAX_PARTS = 64
MAX_FIELDS = 16  # header fields of one part
MAX_FIELD = 4096  # bytes of one of them
OVERHEAD = 64 * 1024  # bytes that the framing may add to the file


class _Parts:
    """Parser callbacks: find the part, and collect its bytes."""

    def __init__(self, wanted: str) -> None:
        self.filename: str | None = None
        self.data = bytearray()
        self.finished = False
        self._wanted = wanted
        self._parts = 0
        self._inside = False
        self._field = bytearray()
        self._value = bytearray()
        self._disposition = b""

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormParserError(f"more than {MAX_PARTS} parts")
        self._disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename", b"").decode(errors="replace")
        self._inside = name == self._wanted and bool(filename) and self.filename is None
        if self._inside:
            self.filename = filename

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self.data += data[start:end]

    def on_part_end(self) -> None:
        self._inside = False

    def on_end(self) -> None:
        self.finished = True


@contextlib.asynccontextmanager
async def receive_upload(
    request: Request, part: str, create: Callable[[], BinaryIO], *, limit: int, seconds: float
) -> AsyncIterator[tuple[str, BinaryIO]]:
    """Write the file in this part of the request to a file made by `create`.

    Yields the name from the form, and the file, which is closed at the end. Raises `FaultError`:
    400 if the form is invalid, 408 and 413 beyond the limits; OSError if it cannot be written.
    """
    file = await trio.to_thread.run_sync(create)
    try:
        with trio.move_on_after(seconds) as deadline:
            name = await _receive(request, part, file, limit)
        if deadline.cancelled_caught:
            raise FaultError(408, f"the upload took more than {seconds:g} s")
        yield name, file
    finally:
        with trio.CancelScope(shield=True):  # Freeing the disk space of a large file takes a while.
            await trio.to_thread.run_sync(file.close)


async def _receive(request: Request, part: str, file: BinaryIO, limit: int) -> str:
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise _unreadable(part, "no multipart boundary param in Content-Type")
    parts = _Parts(part)
    size = 0
    try:
        parser = MultipartParser(
            boundary, _callbacks(parts), max_header_count=MAX_FIELDS, max_header_size=MAX_FIELD
        )
        async with contextlib.aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit + OVERHEAD:
                    raise FaultError(413, f"the upload is larger than {limit >> 20} MiB")
                parser.write(chunk)
                if len(parts.data) >= BUFFER:
                    await _write(file, parts)
        await _write(file, parts)
    except FormParserError as error:
        raise _unreadable(part, str(error)) from None
    except ClientDisconnect:
        raise _unreadable(part, "unexpected EOF") from None
    if parts.filename is None:
        raise _unreadable(part, "http: no such file")
    if not parts.finished:
        raise _unreadable(part, "unexpected EOF")
    return parts.filename


async def _write(file: BinaryIO, parts: _Parts) -> None:
    data, parts.data = parts.data, bytearray()

    def write() -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]

    if data:
        await trio.to_thread.run_sync(write)


def _callbacks(parts: _Parts) -> MultipartCallbacks:
    return {
        "on_part_begin": parts.on_part_begin,
        "on_header_field": parts.on_header_field,
        "on_header_value": parts.on_header_value,
        "on_header_end": parts.on_header_end,
        "on_headers_finished": parts.on_headers_finished,
        "on_part_data": parts.on_part_data,
        "on_part_end": parts.on_part_end,
        "on_end": parts.on_end,
    }


def _unreadable(part: str, why: str) -> FaultError:
    return FaultError(400, f'reading file "{part}" failed: {why}')
