"""One direction of a relayed connection, without I/O: bytes in, the same bytes out.

A lane scans frame headers and nothing else (RFC 6455 §5.2). Every byte passes unchanged until

* a Close frame has passed: nothing may follow it (§5.5.1);
* the sender breaks the protocol, or a message exceeds its limit: everything before that frame has
  passed, and a Close with the reason replaces the rest;
* the gateway ends the connection: its Close frame goes out at the next frame boundary, so no frame
  is cut in two.

After that the lane is `finished`: it passes nothing, but still reads, to see the peer's own Close.
A driver (`relay.epoll_loop`, `relay.pump`) moves the bytes; `proxy.sessions` calls `end`.

The end of a lane. `halted` tells the driver to look at these before it reads on.

| state        | `close` | `violation` | `over` | `ending` | `finished` | `halted` | passes |
| ------------ | ------- | ----------- | ------ | -------- | ---------- | -------- | ------ |
| open         |         |             | no     |          | no         | no       | yes    |
| Close passed | set     |             | yes    |          | yes        | yes      | no     |
| violated     |         | set         | yes    | set      | no         | yes      | no     |
| ending       |         |             | no     | set      | no         | yes      | (1)    |
| flushed      | (2)     | (2)         | (2)    | set      | yes        | (2)      | no     |
| write failed | (2)     | (2)         | (2)    | or set   | yes        | (2)      | no     |

1. The current frame passes to its end. `flush` returns the Close frame at the frame boundary.
2. Set when the peer's own Close or a violation arrives (after `violated`: set before); `halted` as
   `over`.

`write failed` is set by a driver that cannot send any more.

Theory of operation. `need` counts the bytes of the current frame after its header that are still to
come. If a chunk ends inside a header, or inside a Close frame, the lane *holds* this tail (at most
`MAX_HELD` bytes) until the rest arrives: a header is checked completely before its first byte
passes. Only a lane with an `ending` holds more: everything after the place of its Close.

A chunk may contain tens of thousands of frames. A driver that serves other connections, too, limits
the number of frames scanned in one turn. What follows stays in `rest`, as if it had not been
received. The driver continues with it in its next turn, before it reads again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.errors import CloseCode
from trio_gw.relay import runs
from trio_gw.wire import frames
from trio_gw.wire.frames import Close, ViolationError

if TYPE_CHECKING:
    from collections.abc import Callable

# Kinds of frames by their first byte, outside and inside a fragmented message. On the hot path one
# look-up in a table of 256 replaces the tests for FIN, RSV and opcode.
_BAD, _MIDDLE, _LAST, _CONTROL, _CLOSE = 0, 1, 2, 3, 4
_Tables = tuple[bytes, bytes]
MAX_HELD = 6 + frames.MAX_CONTROL  # a masked Close frame without its last byte, and one to spare
FRAMES_PER_TURN = runs.FRAMES_PER_TURN  # frames scanned in one turn
_TAPPED = 32  # the same with a `tap`
_UNLIMITED = 1 << 62
_MAX_CONTROL = frames.MAX_CONTROL


def _tables(rsv: int) -> _Tables:
    """Build the tables outside and inside a fragmented message. `rsv`: the RSV bits in use."""
    outside, inside = bytearray(256), bytearray(256)
    for first in range(256):
        fin, used, opcode = first & frames.FIN, first & 0x70, first & 0x0F
        kind = _LAST if fin else _MIDDLE
        if opcode in (frames.TEXT, frames.BINARY) and not used & ~rsv:
            outside[first] = kind
        # RSV1 marks the first frame of a compressed message only (RFC 7692 §6).
        elif opcode == frames.CONTINUATION and not used & ~(rsv & ~0x40 if rsv != 0x70 else rsv):
            inside[first] = kind
        elif opcode in (frames.PING, frames.PONG, frames.CLOSE) and fin and not used:
            outside[first] = inside[first] = _CLOSE if opcode == frames.CLOSE else _CONTROL
    return bytes(outside), bytes(inside)


_TABLES: dict[int, _Tables] = {rsv: _tables(rsv) for rsv in (0, 0x40, 0x70)}


class Lane:
    """One direction. `masked`: its sender must mask (clients must, §5.1).

    `frames` and `messages` count data frames begun and data messages ended. `octets` counts all
    bytes received without the `rest`. Observers read these plain integers. `extra` counts the
    octets that are neither payload of data frames nor the shortest header of one. Small messages
    have hardly any, so the count of the `payload` costs them nothing. `tap` is called for each data
    frame when its header passes, with the payload's length, and whether it is the last of its
    message. A message may have `most` octets, 0 for any number.
    """

    __slots__ = (
        "_inside", "_masked", "_message", "_most", "_outside", "_table", "close", "ending", "extra",
        "finished", "frames", "held", "messages", "need", "octets", "over", "rest", "tap",
        "violation", "wake",
    )  # fmt: skip

    def __init__(self, *, masked: bool, rsv: int = 0, most: int = 0) -> None:
        self._masked = frames.MASK if masked else 0
        self._outside, self._inside = _TABLES[rsv]
        self._table = self._outside
        self._most = most
        self._message = 0  # octets of the message so far, announced ones included; only with `most`
        self.need = 0
        self.held = b""
        self.rest = b""  # received, and not scanned yet
        self.close: Close | None = None  # the sender's Close frame
        self.violation: ViolationError | None = None
        self.over = False  # one of the two above is set
        self.ending: Close | None = None  # the Close the gateway wants to send
        self.finished = False
        self.frames = self.messages = self.octets = self.extra = 0
        self.tap: Callable[[int, bool], None] | None = None
        self.wake: Callable[[], None] | None = None  # set by the driver, called by `end`

    def feed(
        self, data: bytes | bytearray, most: int = 0, *, counted: bool = False
    ) -> bytes | bytearray | memoryview:
        """Take received bytes; returns what is to be sent, of them and of the held ones.

        With `most`, no more frames than that are scanned. If that leaves a `rest`, call this again
        without new bytes before reading.
        """
        if self.rest:
            data = b"".join((self.rest, data)) if data else self.rest
        elif self.held:
            data = b"".join((self.held, data))
        size = len(data)
        passed = self.take(data, 0, size, most, counted)
        return data if passed == size else memoryview(data)[:passed]

    def take(
        self, data: bytes | bytearray, at: int, size: int, most: int = 0, counted: bool = False
    ) -> int:
        """Take `data[at:size]`, which begins with the held bytes or the rest.

        The owner of the buffer puts them there, which needs no copy of what was received. Returns
        where the bytes that may pass end. With `most`, no more frames than that are scanned. In a
        row of similar frames 16 count as one, unless all are `counted`.
        """
        new = size - at
        if self.held:
            new -= len(self.held)
        self.rest = b""
        self.octets += new
        if (
            size - at < self.need
        ):  # Inside one frame: nothing to scan. The usual case for bulk data.
            self.need -= size - at
            return at if self.finished else size
        if self.over:
            self.extra += new
            return at
        self.held = b""
        passed = self._scan(data, at, size, most or _UNLIMITED, counted)
        if passed < size and not self.held and not self.rest:
            self.extra += size - passed  # is dropped
        if self.finished:
            return at
        self.finished = self.close is not None
        return passed

    def _scan(self, data: bytes | bytearray, at: int, size: int, looks: int, counted: bool) -> int:
        """Scan the frame headers in `data[at:size]`; returns where the bytes that may pass end."""
        at += self.need
        start = at
        table, inside, masked = self._table, self._inside, self._masked
        shortest = 6 if masked else 2
        tap = self.tap
        count = messages = extra = before = 0
        rows = runs.WORTH
        fault, most = None, self._most
        closing = big = False
        stopped = self.ending is not None and not self.finished
        if stopped:
            looks = 0
        elif tap is not None and looks < _UNLIMITED:
            looks = min(looks, _TAPPED)
        while at < size and looks > 0:
            start = at
            first = data[start]
            kind = table[first]
            if kind == _BAD:
                fault = self._fault_of(first, table is inside)
                break
            if size - start < 2:
                break
            second = data[start + 1]
            if second & 0x80 != masked:
                fault = "frame is not masked" if masked else "frame is masked"
                break
            length = second & 0x7F
            at = start + shortest
            if kind >= _CONTROL:
                if length > _MAX_CONTROL:
                    fault = "control frame longer than 125 bytes"
                    break
                if kind == _CLOSE:
                    at += length
                    closing = at <= size
                    if not closing:
                        at = start
                    break
                extra += shortest + length
            else:
                octets = 2
                if length == 126:
                    if size - start < 4:
                        at = start
                        break
                    length = data[start + 2] << 8 | data[start + 3]
                    if length < 126:
                        fault = "frame length not in its shortest form"
                        break
                    octets = 4
                    at += 2
                    extra += 2
                elif length == 127:
                    if size - start < 10:
                        at = start
                        break
                    length = int.from_bytes(data[start + 2 : start + 10], "big")
                    if length < 65536:
                        fault = "frame length not in its shortest form"
                        break
                    if length >> 63:
                        fault = "frame length of more than 63 bits"
                        break
                    octets = 10
                    at += 8
                    extra += 8
                if most and self._is_too_big(length, table is inside):
                    fault, big = f"message of more than {most} bytes", True
                    extra -= octets - 2
                    break
                count += 1
                if kind == _LAST:
                    messages += 1
                    table = self._outside
                else:
                    table = inside
                if tap is not None:
                    tap(length, kind == _LAST)
                    stopped = self.ending is not None and not self.finished
                    if stopped:
                        looks = 1
                elif rows and at - start + length == before:
                    # The second frame of this size: a whole row of messages may follow.
                    if size - start >= runs.LEAST * before and table[first] == _LAST:
                        row = min(looks, runs.MOST) if counted else runs.MOST
                        row = (
                            runs.count_alike(
                                data, start, min(size, start + row * before), before, octets
                            )
                            - 1
                        )
                        looks -= row if counted else min(looks - 1, row // runs.SHARE)
                        count += row
                        messages += row
                        extra += row * (octets - 2)
                        at += row * before
                        rows = row >= runs.LEAST
                elif rows:
                    before = at - start + length
            at += length
            looks -= 1
        self._table = table
        self.frames += count
        self.messages += messages
        if extra:
            self.extra += extra
        if fault is not None:
            return self._refuse(start, fault, big)
        if closing:
            return self._take_close(data, start, at)
        if at >= size:
            self.need = at - size
            return size
        # A frame boundary with bytes after it: the start of a header, or what came after the place
        # of our own Close.
        self.need = 0
        if looks > 0 or stopped:
            self.held = bytes(data[at:size])
        else:
            self.rest = bytes(data[at:size])
            self.octets -= size - at
        return at

    def _is_too_big(self, length: int, inside: bool) -> bool:
        """Return whether the message is too big with a further frame of this length."""
        self._message = self._message + length if inside else length
        return self._message > self._most

    def _take_close(self, data: bytes | bytearray, start: int, end: int) -> int:
        """Check a complete Close frame. What follows it is dropped (§5.5.1)."""
        self.need = 0
        payload = data[start + (6 if self._masked else 2) : end]
        if self._masked:
            payload = frames.apply_mask(payload, data[start + 2 : start + 6])
        try:
            self.close = frames.parse_close(payload)
        except ViolationError as violation:
            return self._violated(start, violation)
        self.over = True
        self.extra += end - start
        return end

    def _refuse(self, start: int, what: str, big: bool) -> int:
        code = CloseCode.TOO_BIG if big else CloseCode.PROTOCOL_ERROR
        return self._violated(start, ViolationError(what, code))

    def _violated(self, start: int, violation: ViolationError) -> int:
        self.need = 0
        self.violation = violation
        self.over = True
        if self.ending is None:
            self.ending = Close(violation.code, violation.what)
        return start

    def _fault_of(self, first: int, inside: bool) -> str:
        """Say what is wrong with the first byte of a frame."""
        opcode = first & 0x0F
        if 3 <= opcode <= 7 or opcode > frames.PONG:
            return f"reserved opcode {opcode}"
        if opcode >= frames.CLOSE and not first & frames.FIN:
            return "fragmented control frame"
        if inside and opcode in (frames.TEXT, frames.BINARY):
            return "new message inside a fragmented one"
        if not inside and opcode == frames.CONTINUATION:
            return "continuation without a message to continue"
        return "RSV bit that no extension claims"

    @property
    def payload(self) -> int:
        """Count the octets of data frames' payloads received so far."""
        headers = self.frames * (6 if self._masked else 2) + self.extra + len(self.held)
        return max(0, self.octets - headers)

    def begun(self) -> int:
        """Count the data messages whose first header has passed."""
        return self.messages + (self._table is self._inside)

    def announced(self) -> int:
        """Count the octets of data frames' payloads, including those still to come."""
        headers = self.frames * (6 if self._masked else 2) + self.extra + len(self.held)
        return self.octets + self.need - headers

    @property
    def halted(self) -> bool:
        """Return whether the driver must check `over`, or `flush`, before it reads on."""
        return self.over or (self.ending is not None and not self.finished)

    def end(self, code: int, reason: str) -> None:
        """Ask for a Close by the gateway. Only the first call counts; a finished lane ignores it.

        `wake` is called, so that the driver calls `flush`.
        """
        if self.ending is None and not self.finished:
            self.ending = Close(code, reason)
            if self.wake is not None:
                self.wake()

    def flush(self) -> bytes:
        """Return the Close frame that `end` asked for, once, at a frame boundary; else nothing."""
        if self.ending is None or self.finished or self.need:
            return b""
        self.finished = True
        return frames.close_frame(*self.ending, masked=bool(self._masked))

    def violate(self, violation: ViolationError) -> None:
        """Treat the sender as one that broke the protocol by the content of a message.

        For the driver of whole messages, which has not sent anything that followed.
        """
        self.held = self.rest = b""
        self.close = None
        self.finished = False
        self._violated(0, violation)

    def cut(self) -> None:
        """Drop the rest of a frame of which nothing has been sent."""
        self.need = 0
        self.held = b""
