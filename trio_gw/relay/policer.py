"""What of one direction may pass its limiter, message by message. No I/O and no clock of its own.

Fed with what a `Lane` passed, so every header is valid and whole. A message is judged where it
begins; all its frames share that fate, so none is ever cut in two, and no continuation goes out
without its beginning. Control frames pass, also between the frames of a message that does not.

`feed` yields what is to be sent and, where a message has to wait, a `Pause`: it has been told
everything before it, and asks the limiter again when it is resumed, or fed with the rest.

A verdict that lasts is not asked for again in what is fed at once: nobody else asks meanwhile, so
that the answer would be the same. Thousands of messages that are dropped cost one question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio_gw.limiting import MessageLimiter

    Bytes = bytes | bytearray | memoryview


class Pause(NamedTuple):
    """Nothing may pass before `until` (epoch seconds); or never again, because of `ending`.

    `at` is the place in what was fed from which on nothing has been judged.
    """

    until: float
    ending: str = ""
    at: int = 0


def count_frames(
    data: bytes | bytearray | memoryview, left: int, *, masked: bool
) -> tuple[int, int]:
    """Count the messages that begin in what a lane passed, and what its data frames announce.

    So much was to come of the frame under way before that.
    """
    view, key = memoryview(data), 4 if masked else 0
    messages = octets = 0
    at = left
    while at < len(view):
        first, length, head = _frame(view, at)
        if first & 0x0F < frames.CLOSE:
            messages += first & 0x0F != frames.CONTINUATION
            octets += length
        at += head + key + length
    return messages, octets


def _frame(view: memoryview, at: int) -> tuple[int, int, int]:
    """Read a header: its first byte, the payload's length, and its own without a key."""
    first, length, head = view[at], view[at + 1] & 0x7F, 2
    if length >= 126:
        head = 4 if length == 126 else 10
        length = int.from_bytes(view[at + 2 : at + head], "big")
    return first, length, head


class Policer:
    """One direction. `masked` as for its lane."""

    def __init__(
        self, limiter: MessageLimiter, clock: Callable[[], float], *, masked: bool
    ) -> None:
        self.closing = False  # the connection ends: what would have to wait is dropped
        self.dropping = False  # the last message that was judged does not pass
        self.dropped = 0  # messages
        self._limiter = limiter
        self._clock = clock
        self._key = 4 if masked else 0
        self._left = 0  # bytes still to come of the current frame
        self._passes = True  # whether the current frame passes
        self._again = False  # the message that comes next has been asked about already
        self._shut = (0.0, 0.0)  # from when to when (epoch seconds) no message passes
        self._unheard = 0  # messages dropped for that, of which the limiter has not heard

    @property
    def discarding(self) -> bool:
        """Tell whether the frame that is under way does not pass."""
        return self._left > 0 and not self._passes

    def resume(self, left: int) -> None:
        """Go on behind what passed without being fed; so much of its last frame is to come."""
        self._left = left
        self._passes = True
        self.dropping = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Bytes | Pause]:
        """Judge what a lane passed."""
        view = memoryview(data)
        size = len(view)
        passed: list[memoryview] = []
        at = begin = 0  # what lies between these passes, too
        self._shut = (0.0, 0.0)
        while at < size:
            if not self._left:
                first, length, head = _frame(view, at)
                self._passes = True
                if first & 0x0F < frames.CLOSE:
                    for pause in self._judge(first & 0x0F, length):
                        if at > begin:
                            passed.append(view[begin:at])
                            begin = at
                        if passed:
                            yield _joined(passed)
                            passed = []
                        yield pause._replace(at=at)
                    self._passes = not self.dropping
                if not self._passes and at > begin:
                    passed.append(view[begin:at])
                self._left = head + self._key + length
            step = min(self._left, size - at)
            self._left -= step
            at += step
            if not self._passes:
                begin = at
        self._tell()
        if at > begin:
            passed.append(view[begin:at])
        if passed:
            yield _joined(passed)

    def _judge(self, opcode: int, length: int) -> Iterator[Pause]:
        """Decide about a data frame: set `dropping`, and yield while the limiter must be asked."""
        if opcode == frames.CONTINUATION:
            if not self.dropping:
                self._limiter.add(length, self._clock())
            return
        now = self._clock()
        if self._shut[0] <= now < self._shut[1]:
            self.dropping = True
            self.dropped += 1
            self._unheard += 1
            return
        self._tell()
        self.dropping = False
        again, self._again = self._again, False
        while (shut := self._limiter.take(length, now, again)) is not None:
            if self.closing or shut.action == "drop":
                self._again = False
                self.dropping = True
                self.dropped += 1
                if shut.lasts:
                    self._shut = now, shut.until
                return
            again = self._again = True
            yield Pause(shut.until, shut.reason if shut.action == "close" else "")
            now = self._clock()
        self._again = False

    def _tell(self) -> None:
        """Let the limiter hear of what was dropped without asking."""
        if self._unheard:
            self._limiter.drop(self._unheard)
            self._unheard = 0


def _joined(parts: list[memoryview]) -> Bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)
