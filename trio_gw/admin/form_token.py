"""The token in a deployment form: its field `access_token`, before the file.

For clients that cannot set a header (spec: adapter-rest §2). It is searched only if there are no
other credentials. Because the client is not authenticated yet, only the first few KiB are read, and
only for a few seconds. The operation then reads the same bytes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from starlette.types import Message, Receive

FIELD = b"access_token"
FORM = b"multipart/form-data"
MAX_PEEK = 16 * 1024  # bytes of the form
SECONDS = 5.0
MAX_TOKEN = 4096  # bytes
MAX_FIELDS, MAX_FIELD = 16, 4096  # header fields of one part, and bytes of one of them


class PeekableBody:
    """An ASGI `receive` that allows to read messages before they are consumed."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[Message] = []

    async def __call__(self) -> Message:
        """Receive a message; peeked messages come first."""
        return self._kept.pop(0) if self._kept else await self._receive()

    async def peek(self) -> Message:
        """Return the next message without consuming it."""
        message = await self._receive()
        self._kept.append(message)
        return message


class _TokenField:
    """Parser callbacks: collect the value of the field until a file or another field ends it."""

    def __init__(self) -> None:
        self.value = bytearray()
        self.over = False
        self._inside = False
        self._name = bytearray()
        self._text = bytearray()
        self._disposition = b""

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._text += data[start:end]

    def on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._text)
        self._name.clear()
        self._text.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self.over = self.over or b"filename" in options
        self._inside = options.get(b"name") == FIELD and not self.over

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside and len(self.value) <= MAX_TOKEN:
            self.value += data[start:end]

    def on_part_end(self) -> None:
        self.over = self.over or self._inside

    def on_end(self) -> None:
        self.over = True


async def form_token(receive: PeekableBody, content_type: str) -> str:
    """Return the token at the beginning of a form; empty if there is none."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != FORM or not boundary:
        return ""
    field, size = _TokenField(), 0
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": field.on_part_begin,
                "on_header_field": field.on_header_field,
                "on_header_value": field.on_header_value,
                "on_header_end": field.on_header_end,
                "on_headers_finished": field.on_headers_finished,
                "on_part_data": field.on_part_data,
                "on_part_end": field.on_part_end,
                "on_end": field.on_end,
            },
            max_header_count=MAX_FIELDS,
            max_header_size=MAX_FIELD,
        )
        with trio.move_on_after(SECONDS):
            while not field.over and size < MAX_PEEK:
                message = await receive.peek()
                body = message.get("body", b"")[: MAX_PEEK - size]
                parser.write(body)
                size += len(body)
                if not message.get("more_body"):
                    break
    except FormParserError:
        return ""  # the operation will report the error
    whole = field.over and len(field.value) <= MAX_TOKEN
    return field.value.decode("ascii", "replace") if whole else ""
