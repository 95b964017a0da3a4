"""What passes a limiter: whole messages or nothing of them, whatever is cut and mixed how."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.conversation import KEY, Seen, frame, split_frames
from trio_gw.limiting import LimitReached
from trio_gw.relay.lane import Lane
from trio_gw.relay.policer import Pause, Policer
from trio_gw.wire import frames


class Script:
    """A limiter that lets pass what it was told to, in order; afterwards everything."""

    def __init__(self, *fates: bool, action: str = "drop") -> None:
        self.fates = list(fates)
        self.asked = self.unasked = 0
        self.action = action
        self.octets = 0

    def take(self, octets: int, now: float, again: bool = False) -> LimitReached | None:
        self.asked += 1
        if self.fates and not self.fates.pop(0):
            return LimitReached(now + 1, self.action, "no")
        self.octets += octets
        return None

    def fits(self, messages: int, octets: int, now: float) -> bool:
        return False

    def add(self, octets: int, now: float) -> None:
        self.octets += octets

    def drop(self, messages: int) -> None:
        self.unasked += messages


def clock() -> float:
    return 100.0


class Message(NamedTuple):
    """A data message in fragments of these sizes, with a control frame behind some of them."""

    sizes: list[int]
    controls: list[tuple[int, bytes] | None]
    passes: bool


CONTROL = st.tuples(st.sampled_from([frames.PING, frames.PONG]), st.binary(max_size=9))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    sizes = st.integers(0, 300) | st.sampled_from([125, 126, 127, 65535, 65536])
    fragments = draw(st.lists(sizes, min_size=1, max_size=4))
    controls = [draw(st.none() | CONTROL) for _ in fragments]
    return Message(fragments, controls, draw(st.booleans()))


def wire(script: list[Message], key: bytes | None) -> tuple[bytes, list[tuple[int, bytes]], int]:
    """Write the messages; gives what has to arrive, too, and the octets that count."""
    data, expected, octets = b"", [], 0
    for message in script:
        for at, size in enumerate(message.sizes):
            payload = b"m" * size
            opcode = frames.CONTINUATION if at else frames.BINARY
            fin = at == len(message.sizes) - 1
            data += frame(opcode, payload, fin=fin, key=key)
            if message.passes:
                expected.append(((frames.FIN if fin else 0) | opcode, payload))
                octets += len(payload)
            if (control := message.controls[at]) is not None:
                data += frame(*control, key=key)
                expected.append((frames.FIN | control[0], control[1]))
    return data, expected, octets


def through(lane: Lane, policer: Policer, chunks: list[bytes]) -> bytes:
    out = b""
    for chunk in chunks:
        for part in policer.feed(lane.feed(chunk)):
            assert not isinstance(part, Pause)
            out += part
    return out


def shown(found: list[Seen]) -> list[tuple[int, bytes]]:
    return [(seen.first, seen.payload) for seen in found]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(messages(), max_size=8),
    splits=st.lists(st.integers(1, 5000), max_size=40),
    masked=st.booleans(),
)
def test_a_dropped_message_leaves_no_trace(
    script: list[Message], splits: list[int], masked: bool
) -> None:
    key = KEY if masked else None
    data, expected, octets = wire(script, key)
    chunks, at = [], 0
    for step in splits:
        chunks.append(data[at : at + step])
        at += step
    chunks.append(data[at:])
    limiter = Script(*(message.passes for message in script))
    policer = Policer(limiter, clock, masked=masked)
    lane = Lane(masked=masked)
    out = through(lane, policer, [chunk for chunk in chunks if chunk])
    found, rest = split_frames(out)
    assert rest == b""
    assert shown(found) == expected
    assert limiter.octets == octets
    assert policer.dropped == sum(not message.passes for message in script)
    # What was dropped is no longer in the way of those to come, nor of a receiver that is strict.
    receiver = Lane(masked=masked)
    receiver.feed(out)
    assert receiver.violation is None
    goodbye = frame(frames.CLOSE, key=key)
    assert through(lane, policer, [goodbye]) == goodbye


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(messages(), min_size=1, max_size=8),
    holds=st.lists(st.booleans(), max_size=30),
)
def test_what_waits_is_sent_in_its_place(script: list[Message], holds: list[bool]) -> None:
    script = [message._replace(passes=True) for message in script]
    data, expected, _ = wire(script, None)
    policer = Policer(Script(*holds, action="pause"), clock, masked=False)
    out, held = b"", 0
    for part in policer.feed(data):
        if isinstance(part, Pause):
            assert part == (101.0, "", len(out))
            assert split_frames(out)[1] == b"", "everything before it has been told"
            held += 1
        else:
            out += part
    assert shown(split_frames(out)[0]) == expected
    assert held >= holds[: len(script)].count(False)


def test_a_limit_that_closes_says_so_once_and_lets_nothing_pass() -> None:
    message, ping = frame(frames.TEXT, b"x", key=KEY), frame(frames.PING, key=KEY)
    policer = Policer(Script(True, *[False] * 9, action="close"), clock, masked=True)
    out, endings = b"", []
    for part in policer.feed(message + ping + message + ping + message):
        if isinstance(part, Pause):
            endings.append(part.ending)
            policer.closing = True
        else:
            out += part
    assert endings == ["no"]
    assert out == message + ping + ping


def test_a_dropped_frame_that_is_under_way_is_being_swallowed() -> None:
    policer = Policer(Script(False, True), clock, masked=False)
    data = frame(frames.TEXT, b"hello")
    told = [
        (b"".join(map(bytes, policer.feed(part))), policer.discarding)  # type: ignore[arg-type]
        for part in (data[:4], data[4:], data[:4])
    ]
    assert told == [(b"", True), (b"", False), (data[:4], False)]


class Full(Script):
    """A limiter that lets so many messages pass in each second, and then says until when none."""

    def __init__(self, room: int, action: str) -> None:
        super().__init__(action=action)
        self.room, self.second, self.passed = room, 0, 0

    def take(self, octets: int, now: float, again: bool = False) -> LimitReached | None:
        self.asked += 1
        if int(now) != self.second:
            self.second, self.passed = int(now), 0
        if self.passed >= self.room:
            return LimitReached(int(now) + 1.0, self.action, "full", lasts=True)
        self.passed += 1
        self.octets += octets
        return None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(messages(), max_size=8),
    room=st.integers(0, 4),
    splits=st.lists(st.integers(1, 5000), max_size=9),
)
def test_a_verdict_that_lasts_is_used_for_the_rest(
    script: list[Message], room: int, splits: list[int]
) -> None:
    script = [message._replace(passes=at < room) for at, message in enumerate(script)]
    data, expected, octets = wire(script, KEY)
    chunks, at = [], 0
    for step in (*splits, len(data)):
        chunks.append(data[at : at + step])
        at += step
    chunks = [chunk for chunk in chunks if chunk]
    limiter = Full(room, "drop")
    policer = Policer(limiter, clock, masked=True)
    found, rest = split_frames(through(Lane(masked=True), policer, chunks))
    assert rest == b""
    assert shown(found) == expected
    assert limiter.octets == octets
    dropped = max(0, len(script) - room)
    assert policer.dropped == dropped
    assert limiter.asked + limiter.unasked == len(script)
    assert limiter.asked <= min(len(script), room) + min(dropped, len(chunks))


def test_a_verdict_is_used_no_longer_than_it_lasts() -> None:
    times = [100 + number / 64 for number in range(640)]
    limiter = Full(1, "drop")
    policer = Policer(limiter, lambda: times.pop(0), masked=False)
    message = frame(frames.TEXT, b"x")
    assert b"".join(map(bytes, policer.feed(message * 640))) == message * 10  # type: ignore[arg-type]
    assert policer.dropped == 630
    assert limiter.asked == 2 * 10, "one that passes, and one that says that no more do"
    assert limiter.unasked == 640 - 2 * 10


def test_a_clock_that_is_set_back_ends_a_verdict() -> None:
    times = [100.0, 100.5, 90.0, 90.1, 90.2]
    limiter = Full(1, "drop")
    policer = Policer(limiter, lambda: times.pop(0), masked=False)
    message = frame(frames.TEXT, b"x")
    assert b"".join(map(bytes, policer.feed(message * 5))) == message * 2  # type: ignore[arg-type]
    assert (policer.dropped, limiter.asked, limiter.unasked) == (3, 4, 1)
    assert times == []


def test_who_is_closed_for_a_limit_is_not_judged_message_by_message() -> None:
    limiter = Full(1, "close")
    policer = Policer(limiter, clock, masked=False)
    message, ping = frame(frames.TEXT, b"x"), frame(frames.PING)
    out = b""
    for part in policer.feed(message + (message + ping) * 500):
        if isinstance(part, Pause):
            assert part.ending == "full"
            policer.closing = True
        else:
            out += part
    assert out == message + ping * 500
    assert (policer.dropped, limiter.asked, limiter.unasked) == (500, 3, 499)
