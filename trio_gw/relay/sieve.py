"""What of one direction may pass its gate, message by message. No I/O and no clock of its own.

Fed with what a `Lane` passed, so every header is valid and whole. A message is judged where it
begins; all its frames share that fate, so none is ever cut in two, and no continuation goes out
without its beginning. Control frames pass, also between the frames of a message that does not.

`feed` yields what is to be sent and, where a message has to wait, a `Hold`: it has been told
everything before it, and asks the gate again when it is resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from trio_gw.errors import CloseCode
from trio_gw.wire import frames
from trio_gw.wire.frames import ViolationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Verdict(Protocol):
    """Why a message may not pass, until when (epoch seconds), and what is to be done."""

    @property
    def until(self) -> float: ...
    @property
    def action(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Gate(Protocol):
    """Who decides. `take` counts what it lets pass; `add` a further frame of that."""

    def take(self, octets: int, now: float) -> Verdict | None: ...
    def add(self, octets: int, now: float) -> None: ...


class Hold(NamedTuple):
    """Nothing may pass before `until` (epoch seconds); or never again, because of `ending`."""

    until: float
    ending: str = ""


class Sieve:
    """One direction. `masked` as for its lane; `most` bytes in one message, 0 for any number."""

    def __init__(
        self, gate: Gate | None, clock: Callable[[], float], *, masked: bool, most: int = 0
    ) -> None:
        self.closing = False  # the connection ends: what would have to wait is dropped
        self.dropping = False  # the message that is under way does not pass
        self.dropped = 0  # messages
        self._gate = gate
        self._clock = clock
        self._key = 4 if masked else 0
        self._most = most
        self._left = 0  # bytes still to come of the current frame
        self._passes = True  # whether the current frame passes
        self._size = 0  # of the message so far, what is announced included

    @property
    def swallowing(self) -> bool:
        """Tell whether the frame that is under way does not pass."""
        return self._left > 0 and not self._passes

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[memoryview | Hold]:
        """Judge what a lane passed. Raises `ViolationError` for a message that is too big."""
        view = memoryview(data)
        size = len(view)
        at = begin = 0  # what lies between these passes, and is still to be yielded
        while at < size:
            if not self._left:
                first, length, head = view[at], view[at + 1] & 0x7F, 2
                if length >= 126:
                    head = 4 if length == 126 else 10
                    length = int.from_bytes(view[at + 2 : at + head], "big")
                self._passes = True
                if first & 0x0F < frames.CLOSE:
                    for hold in self._judge(first & 0x0F, length):
                        if at > begin:
                            yield view[begin:at]
                            begin = at
                        yield hold
                    self._passes = not self.dropping and not self._is_too_big
                if not self._passes and at > begin:
                    yield view[begin:at]
                if self._is_too_big:
                    what = f"message of more than {self._most} bytes"
                    raise ViolationError(what, CloseCode.TOO_BIG)
                self._left = head + self._key + length
            step = min(self._left, size - at)
            self._left -= step
            at += step
            if not self._passes:
                begin = at
        if at > begin:
            yield view[begin:at]

    @property
    def _is_too_big(self) -> bool:
        return 0 < self._most < self._size

    def _judge(self, opcode: int, length: int) -> Iterator[Hold]:
        """Decide about a data frame: sets `dropping`, and yields while the gate has to be asked."""
        if opcode == frames.CONTINUATION:
            self._size += length
            if self._gate is not None and not self.dropping and not self._is_too_big:
                self._gate.add(length, self._clock())
            return
        self._size = length
        self.dropping = False
        if self._gate is None or self._is_too_big:
            return
        while (shut := self._gate.take(length, self._clock())) is not None:
            if self.closing or shut.action == "drop":
                self.dropping = True
                self.dropped += 1
                return
            yield Hold(shut.until, shut.reason if shut.action == "close" else "")
