"""Which messages of one direction may pass their limiter. No I/O and no clock of its own.

A policer is fed with what a `Lane` passed, so every header is valid and complete. A message is
judged at its beginning, and all its frames are treated alike. So no message is cut in two, and no
continuation goes out without its beginning. Control frames always pass, also between the frames of
a dropped message.

`feed` yields what is to be sent and, if a message has to wait, a `Pause`. The caller has sent
everything before it by then. The limiter is asked again when the caller continues the iteration, or
feeds the rest.

An answer that lasts is used for all that is fed at once, without asking again: no other session
asks meanwhile, so the answer would be the same. So thousands of dropped messages cost one question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_gw.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio_gw.limiting import MessageLimiter

    Bytes = bytes | bytearray | memoryview


class Pause(NamedTuple):
    """Nothing may pass before `until` (epoch seconds), or never again, because of `ending`.

    From `at` on, nothing of the fed data has been judged.
    """

    until: float
    ending: str = ""
    at: int = 0


def count_frames(
    data: bytes | bytearray | memoryview, left: int, *, masked: bool
) -> tuple[int, int]:
    """Count the messages that begin in `data`, and the octets that its data frames announce.

    `data` comes from a lane. It begins with the last `left` bytes of a frame.
    """
    view, mask = memoryview(data), 4 if masked else 0
    messages = octets = 0
    at = left
    while at < len(view):
        first, length, head = frames.header(view, at)
        if first & 0x0F < frames.CLOSE:
            messages += first & 0x0F != frames.CONTINUATION
            octets += length
        at += head + mask + length
    return messages, octets


class Policer:
    """One direction. `masked` as for its lane."""

    def __init__(
        self, limiter: MessageLimiter, clock: Callable[[], float], *, masked: bool
    ) -> None:
        self.closing = False  # the connection ends: what would have to wait is dropped
        self.dropping = False  # the last message that was judged does not pass
        self.dropped = 0  # messages
        # Called for each data frame that does not pass, with the length of its payload.
        self.on_drop: Callable[[int], None] | None = None
        self._limiter = limiter
        self._clock = clock
        self._mask = 4 if masked else 0  # bytes of the masking key
        self._left = 0  # bytes still to come of the current frame
        self._passes = True  # whether the current frame passes
        self._again = False  # the message that comes next has been asked about already
        self._shut = (0.0, 0.0)  # epoch seconds between which no message passes
        self._unreported = 0  # messages dropped for that, not yet reported to the limiter

    @property
    def discarding(self) -> bool:
        """Return whether the current frame is being dropped."""
        return self._left > 0 and not self._passes

    def resume(self, left: int) -> None:
        """Continue after data that was not fed here; `left` bytes of its last frame are to come."""
        self._left = left
        self._passes = True
        self.dropping = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Bytes | Pause]:
        """Judge what a lane passed."""
        view = memoryview(data)
        size = len(view)
        passed: list[memoryview] = []
        at = begin = 0  # the bytes between these pass, too
        self._shut = (0.0, 0.0)
        while at < size:
            if not self._left:
                first, length, head = frames.header(view, at)
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
                    if self.dropping and self.on_drop is not None:
                        self.on_drop(length)
                if not self._passes and at > begin:
                    passed.append(view[begin:at])
                self._left = head + self._mask + length
            step = min(self._left, size - at)
            self._left -= step
            at += step
            if not self._passes:
                begin = at
        self._report()
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
            self._unreported += 1
            return
        self._report()
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

    def _report(self) -> None:
        """Report to the limiter what was dropped without a question."""
        if self._unreported:
            self._limiter.drop(self._unreported)
            self._unreported = 0


def _joined(parts: list[memoryview]) -> Bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)
