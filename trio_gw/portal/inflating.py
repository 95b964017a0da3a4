"""Inflates the messages of permessage-deflate, for display (RFC 7692). No I/O.

Bounded: what is too large to be inflated is shown as it came. After that the context of the
compression is lost, so later messages are shown compressed, too.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from trio_gw.wire.frames import CLOSE, CONTINUATION

if TYPE_CHECKING:
    from trio_gw.wire.frame_reader import WholeFrame

MOST = 2 << 20  # octets that one frame may become: takes about 8 ms
TAIL = b"\x00\x00\xff\xff"


class Inflater:
    """Inflates the frames of one direction. `takeover`: a message may refer to earlier ones."""

    def __init__(self, *, takeover: bool) -> None:
        self._takeover = takeover
        self._lost = False
        self._inside = False  # of a compressed message
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def inflate(self, frame: WholeFrame) -> bytes | None:
        """Return the payload of a frame; None if it is not compressed, or cannot be inflated."""
        if frame.opcode >= CLOSE:
            return None
        if frame.opcode != CONTINUATION:
            self._inside = frame.compressed
        if not self._inside:
            return None
        if self._lost or len(frame.payload) < frame.size:
            self._lost = self._takeover
            return None
        try:
            data = frame.payload + (TAIL if frame.fin else b"")
            found = self._inflate.decompress(data, MOST)
        except zlib.error:
            self._lost = True
            return None
        if self._inflate.unconsumed_tail:
            self._lost = True
        elif frame.fin and not self._takeover:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return found
