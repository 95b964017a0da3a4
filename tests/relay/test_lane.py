"""One direction of a relay: the same bytes out, however the bytes in are cut.

What goes out is judged by `support.conversation`, which reads frames on its own account.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.conversation import KEY, close, cuts, frame, outcome, split_frames, talk, text
from support.examples import examples
from trio_gw.relay.lane import Lane
from trio_gw.wire.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
REGISTERED = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


class Way(NamedTuple):
    """A direction: publish is masked, subscribe is not."""

    masked: bool

    @property
    def key(self) -> bytes | None:
        return KEY if self.masked else None

    def lane(self, rsv: int = 0) -> Lane:
        return Lane(masked=self.masked, rsv=rsv)


@pytest.fixture(params=[True, False], ids=["publish", "subscribe"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


ways = st.booleans().map(Way)


# --- valid conversations --------------------------------------------------------------------


class Traffic(NamedTuple):
    """A valid conversation, and what counters should say of it."""

    stream: bytes
    frames: int
    messages: int


@st.composite
def traffic(draw: st.DrawFn, way: Way, *, compressed: bool = False) -> Traffic:
    """Draw messages, fragmented at will, with control frames between any two frames."""
    sizes = st.one_of(st.integers(0, 20), st.sampled_from([124, 125, 126, 127, 300, 65535, 65536]))
    keys = st.binary(min_size=4, max_size=4)
    out = bytearray()
    count = 0

    def add(opcode: int, size: int, *, fin: bool = True, rsv: int = 0) -> None:
        payload = draw(st.randoms(use_true_random=False)).randbytes(size)
        key = draw(keys) if way.masked else None
        out.extend(frame(opcode, payload, fin=fin, rsv=rsv, key=key))

    def interleave() -> None:
        for opcode in draw(st.lists(st.sampled_from([PING, PONG]), max_size=2)):
            add(opcode, draw(st.integers(0, 125)))

    messages = draw(st.integers(0, 4))
    for _ in range(messages):
        interleave()
        parts = draw(st.integers(1, 4))
        rsv = RSV1 if compressed and draw(st.booleans()) else 0
        for part in range(parts):
            opcode = CONTINUATION if part else draw(st.sampled_from([TEXT, BINARY]))
            add(opcode, draw(sizes), fin=part == parts - 1, rsv=0 if part else rsv)
            count += 1
            if part < parts - 1:
                interleave()
    interleave()
    return Traffic(bytes(out), count, messages)


def chop(stream: bytes, at: Sequence[int]) -> list[bytes]:
    """Cut a stream at these places."""
    places = [0, *sorted(place % (len(stream) + 1) for place in at), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]


@given(st.data(), ways, st.booleans())
@settings(max_examples=examples(1000), deadline=None)
def test_the_same_bytes_come_out(data: st.DataObject, way: Way, compressed: bool) -> None:
    flow = data.draw(traffic(way, compressed=compressed))
    at = data.draw(st.lists(st.integers(0, 200_000), max_size=12))
    lane = way.lane(RSV1 if compressed else 0)
    talk(lane).feeds(*chop(flow.stream, at)).forwards(flow.stream).goes_on()
    assert (lane.frames, lane.messages, lane.octets) == (
        flow.frames,
        flow.messages,
        len(flow.stream),
    )


@given(st.data(), ways)
@settings(max_examples=examples(300), deadline=None)
def test_nothing_is_held_back_but_a_header(data: st.DataObject, way: Way) -> None:
    flow = data.draw(traffic(way))
    place = data.draw(st.integers(0, len(flow.stream)))
    lane = way.lane()
    passed = bytes(lane.feed(flow.stream[:place]))
    assert flow.stream.startswith(passed)
    assert place - len(passed) < 14  # the longest header


def everything(way: Way, rsv: int = 0) -> bytes:
    """Build a conversation with every kind of frame and every form of length."""
    key = way.key
    return b"".join(
        (
            frame(TEXT, b"", key=key, rsv=rsv),
            frame(BINARY, b"ab", key=key, fin=False, rsv=rsv),
            frame(PING, b"", key=key),
            frame(CONTINUATION, b"", key=key, fin=False),
            frame(PONG, b"unasked", key=key),
            frame(CONTINUATION, b"c" * 126, key=key),
            frame(PING, b"p" * 125, key=key),
            frame(TEXT, b"d" * 125, key=key),
        )
    )


@pytest.mark.parametrize("rsv", [0, RSV1])
def test_every_cut_of_a_long_conversation(way: Way, rsv: int) -> None:
    stream = everything(way, rsv) + close(1000, b"bye", key=way.key)
    for chunks in cuts(stream):
        talk(way.lane(rsv)).feeds(*chunks).forwards(stream).hears(1000, "bye")


def test_two_cuts_anywhere(way: Way) -> None:
    key = way.key
    stream = b"".join(
        (
            frame(TEXT, b"x" * 126, key=key, fin=False)[:40],
            bytes(frame(TEXT, b"x" * 126, key=key)[40:]),
            frame(CONTINUATION, key=key),
            close(1000, key=key),
        )
    )
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            chunks = stream[:first], stream[first:second], stream[second:]
            talk(way.lane()).feeds(*chunks).forwards(stream).hears(1000)


def test_long_lengths(way: Way) -> None:
    stream = frame(BINARY, bytes(65535), key=way.key) + frame(BINARY, bytes(65536), key=way.key)
    for place in [*range(20), *range(65535, 65570), len(stream) - 1]:
        talk(way.lane()).feeds(stream[:place], stream[place:]).forwards(stream).goes_on()


def test_a_whole_chunk_is_passed_on_without_a_copy(way: Way) -> None:
    chunk = everything(way)
    assert way.lane().feed(chunk) is chunk
    lane = way.lane()
    lane.feed(frame(BINARY, bytes(1000), key=way.key)[:20])
    inside = bytes(500)
    assert lane.feed(inside) is inside


def test_bytearrays_and_nothing_are_taken_too(way: Way) -> None:
    stream = everything(way)
    conversation = talk(way.lane()).feeds(b"").forwards()
    for at in range(len(stream)):
        conversation.feeds(bytes(bytearray(stream[at : at + 1])), b"")
    conversation.forwards(stream)
    lane = way.lane()
    assert bytes(lane.feed(bytearray(stream))) == stream
    assert bytes(lane.feed(bytearray(stream[:1]))) == b""


@pytest.mark.parametrize("length", [65536, 1 << 32, (1 << 63) - 1])
def test_a_frame_of_63_bits_needs_no_memory(way: Way, length: int) -> None:
    header = bytes((FIN | BINARY, 127 | (0x80 if way.masked else 0))) + length.to_bytes(8, "big")
    header += KEY if way.masked else b""
    lane = way.lane()
    conversation = talk(lane).feeds(header).forwards(header)
    conversation.feeds(b"x" * 1000).forwards(b"x" * 1000).goes_on()
    assert (lane.frames, lane.messages, lane.octets) == (1, 1, len(header) + 1000)


def test_counters_leave_control_frames_out(way: Way) -> None:
    lane = way.lane()
    stream = everything(way) + close(1000, key=way.key)
    talk(lane).feeds(stream)
    assert (lane.frames, lane.messages, lane.octets) == (5, 3, len(stream))


@given(st.data(), ways)
@settings(max_examples=examples(300), deadline=None)
def test_a_message_is_known_with_its_first_header(data: st.DataObject, way: Way) -> None:
    """At every cut: how many have begun, what they announce, and what is left of a frame."""
    flow = data.draw(traffic(way))
    lane = way.lane()
    for chunk in chop(flow.stream, data.draw(st.lists(st.integers(0, 200_000), max_size=9))):
        passed = lane.feed(chunk)
        assert lane.octets - len(lane.held) >= len(passed)
        seen, _ = split_frames(flow.stream)
        at = begun = announced = left = 0
        for one in seen:
            if at >= lane.octets - len(lane.held):
                break
            head = 2 + (0 if len(one.payload) < 126 else 2 if len(one.payload) < 65536 else 8)
            at += head + (4 if way.masked else 0) + len(one.payload)
            left = at - (lane.octets - len(lane.held))
            if one.opcode < CLOSE:
                begun += one.opcode != CONTINUATION
                announced += len(one.payload)
        assert (lane.begun(), lane.announced(), lane.need) == (begun, announced, max(left, 0))


def test_a_message_counts_when_it_is_complete(way: Way) -> None:
    lane = way.lane()
    talk(lane).feeds(frame(TEXT, b"a", fin=False, key=way.key))
    assert (lane.frames, lane.messages) == (1, 0)
    talk(lane).feeds(frame(CONTINUATION, b"a", key=way.key))
    assert (lane.frames, lane.messages) == (2, 1)


# --- violations -----------------------------------------------------------------------------


def header(first: int, length: int, way: Way, extended: bytes = b"") -> bytes:
    """Build the start of a frame by hand, payload omitted."""
    return bytes((first, length | (0x80 if way.masked else 0))) + extended


def violations(way: Way) -> dict[str, tuple[bytes, bytes, str]]:
    """List what comes first and is fine, what breaks the protocol, and how it is named."""
    key, wrong = way.key, None if way.masked else KEY
    inside = frame(TEXT, b"part", fin=False, key=key)
    unmasked = "frame is not masked" if way.masked else "frame is masked"
    found = {
        "masking": (b"", text(key=wrong), unmasked),
        "masking of a ping": (b"", frame(PING, key=wrong), unmasked),
        "masking of a close": (b"", close(1000, key=wrong), unmasked),
        "text inside a message": (inside, frame(TEXT, key=key), "new message inside"),
        "binary inside a message": (inside, frame(BINARY, fin=False, key=key), "new message"),
        "continuation first": (b"", frame(CONTINUATION, key=key), "without a message"),
        "continuation after the last": (
            inside + frame(CONTINUATION, key=key),
            frame(CONTINUATION, fin=False, key=key),
            "without a message",
        ),
        "16 bits for 125": (b"", frame(TEXT, bytes(125), length=126, key=key), "shortest form"),
        "16 bits for 0": (b"", frame(TEXT, b"", length=126, key=key), "shortest form"),
        "64 bits for 65535": (b"", header(0x82, 127, way, bytes(6) + b"\xff\xff"), "shortest"),
        "64 bits for 1": (b"", frame(BINARY, b"x", length=127, key=key), "shortest form"),
        "64th bit": (b"", header(0x82, 127, way, b"\x80" + bytes(7)), "more than 63 bits"),
        "all 64 bits": (b"", header(0x82, 127, way, b"\xff" * 8), "more than 63 bits"),
        "a second request": (b"", b"GET / HTTP/1.1\r\n\r\n", "reserved opcode 7"),
        "close with half a code": (b"", frame(CLOSE, b"\x03", key=key), "half a code"),
        "close code 1005": (b"", close(1005, key=key), "1005 must not be sent"),
        "close reason": (b"", close(1000, b"\xff", key=key), "not UTF-8"),
    }
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        found[f"opcode {opcode}"] = b"", frame(opcode, key=key), f"reserved opcode {opcode}"
    for opcode in (CLOSE, PING, PONG):
        name = f"control {opcode}"
        found[f"{name} fragmented"] = b"", frame(opcode, fin=False, key=key), "fragmented control"
        found[f"{name} of 126"] = b"", frame(opcode, bytes(126), key=key), "longer than 125"
        found[f"{name} of 65536"] = b"", header(FIN | opcode, 127, way), "longer than 125"
        found[f"{name} with RSV1"] = b"", frame(opcode, rsv=RSV1, key=key), "RSV"
    for rsv in (RSV1, RSV2, RSV3, RSV1 | RSV3):
        found[f"RSV {rsv:x}"] = text(key=key), frame(TEXT, rsv=rsv, key=key), "RSV"
        found[f"RSV {rsv:x} on a continuation"] = (
            inside,
            frame(CONTINUATION, rsv=rsv, key=key),
            "RSV",
        )
    return found


KINDS = sorted(violations(Way(masked=True)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_violation_at_every_cut(way: Way, kind: str) -> None:
    good, bad, what = violations(way)[kind]
    good = everything(way) + good
    code = 1007 if "UTF-8" in what else 1002
    for chunks in cuts(good + bad):
        conversation = talk(way.lane(), masked=way.masked).feeds(*chunks).violates(what)
        assert conversation.lane.violation is not None
        conversation.first_forwards(good).closes(code, conversation.lane.violation.what)


def test_nothing_of_a_bad_frame_passes_and_nothing_after_it(way: Way) -> None:
    conversation = talk(way.lane(), masked=way.masked)
    conversation.feeds(text(key=way.key)).forwards(text(key=way.key)).goes_on()
    conversation.feeds(frame(3, b"bad", key=way.key), text(key=way.key)).closes(1002)
    conversation.feeds(text(key=way.key), close(1000, key=way.key)).forwards()
    assert conversation.lane.close is None


@pytest.mark.parametrize(
    "fragments", [[11], [5, 5, 1], [10, 1], [0, 0, 11], [126], [0, 126], [65536], [1, 65536]]
)
def test_a_message_that_is_too_big(way: Way, fragments: list[int]) -> None:
    said = text(key=way.key) + frame(BINARY, b"x" * 10, key=way.key)
    parts = [
        frame(CONTINUATION if at else TEXT, b"x" * size, fin=False, key=way.key)
        for at, size in enumerate(fragments)
    ]
    good, bad = said + b"".join(parts[:-1]), parts[-1]
    for chunks in ([good + bad], [good, bad[:-1], bad[-1:]], [bytes([one]) for one in good + bad]):
        lane = Lane(masked=way.masked, most=10)
        conversation = talk(lane, masked=way.masked).feeds(*chunks)
        conversation.first_forwards(good).closes(1009, "message of more than 10 bytes")
        assert lane.payload == len(text()) - 2 + 10 + sum(fragments[:-1])


def test_messages_of_the_largest_size_pass_one_after_another(way: Way) -> None:
    said = frame(TEXT, b"x" * 10, key=way.key) * 3
    for _ in range(2):
        said += frame(TEXT, b"x" * 9, fin=False, key=way.key) + frame(PING, b"x" * 99, key=way.key)
        said += frame(CONTINUATION, b"x", key=way.key)
    lane = Lane(masked=way.masked, most=10)
    talk(lane, masked=way.masked).feeds(said).forwards(said).goes_on()


@pytest.mark.parametrize("rsv", [RSV2, RSV3, RSV1 | RSV2])
def test_deflate_claims_rsv1_alone(way: Way, rsv: int) -> None:
    talk(way.lane(RSV1)).feeds(frame(TEXT, rsv=rsv, key=way.key)).violates("RSV")


def test_rsv1_is_for_first_frames(way: Way) -> None:
    first = frame(TEXT, b"a", fin=False, rsv=RSV1, key=way.key)
    again = frame(CONTINUATION, b"b", rsv=RSV1, key=way.key)
    talk(way.lane(RSV1)).feeds(first).forwards(first).feeds(again).violates("RSV")


def test_an_unknown_extension_may_use_every_bit_of_data_frames(way: Way) -> None:
    first = frame(TEXT, b"a", fin=False, rsv=0x70, key=way.key)
    again = frame(CONTINUATION, b"b", rsv=0x70, key=way.key)
    talk(way.lane(0x70)).feeds(first + again).forwards(first, again).goes_on()


@given(st.data(), ways)
@settings(max_examples=examples(1000), deadline=None)
def test_a_flipped_octet_never_changes_what_passes(data: st.DataObject, way: Way) -> None:
    """Whatever arrives: what passes is its beginning, and does not depend on the cuts."""
    stream = bytearray(everything(way) + close(1000, b"bye", key=way.key))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    at = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    whole = outcome(way.lane(), [bytes(stream)])
    assert stream.startswith(whole[0])
    passed, what, heard = outcome(way.lane(), chop(bytes(stream), at))
    assert (what, heard) == whole[1:]
    if what or heard:
        assert passed == whole[0]


def test_random_octets_from_every_kind_of_start(way: Way) -> None:
    dice = random.Random(6455)
    for _ in range(2000):
        stream = dice.randbytes(dice.randrange(1, 40))
        whole = outcome(way.lane(), [stream])
        singly = outcome(way.lane(), [stream[at : at + 1] for at in range(len(stream))])
        assert singly == whole


# --- close ----------------------------------------------------------------------------------


def test_every_close_code_from_both_sides(way: Way) -> None:
    before = text(key=way.key)
    for code in range(5001):
        for reason in (b"", b"why \xc3\xbc", b"r" * 123):
            said = close(code, reason, key=way.key)
            conversation = talk(way.lane(), masked=way.masked).feeds(before + said)
            if code in REGISTERED or 3000 <= code <= 4999:
                conversation.forwards(before, said).hears(code, reason.decode())
                assert conversation.lane.finished
            else:
                conversation.violates(f"close code {code} must not be sent")
                conversation.first_forwards(before).closes(1002)


def test_a_close_without_code_passes(way: Way) -> None:
    for chunks in cuts(close(key=way.key)):
        talk(way.lane()).feeds(*chunks).forwards(close(key=way.key)).hears(1005)


def test_a_close_passes_whole_or_not_at_all(way: Way) -> None:
    said = close(1000, b"r" * 123, key=way.key)
    for place in range(1, len(said)):
        conversation = talk(way.lane()).feeds(said[:place]).forwards().goes_on()
        conversation.feeds(said[place:]).forwards(said).hears(1000, "r" * 123)


def test_a_close_inside_a_fragmented_message(way: Way) -> None:
    stream = frame(TEXT, b"part", fin=False, key=way.key) + close(1001, key=way.key)
    for chunks in cuts(stream):
        talk(way.lane()).feeds(*chunks).forwards(stream).hears(1001)


def test_nothing_follows_a_close(way: Way) -> None:
    said = close(1000, key=way.key)
    for chunks in cuts(said + text(key=way.key) + b"\xff" * 9):
        conversation = talk(way.lane()).feeds(*chunks).forwards(said).hears(1000)
        conversation.ends(1001).forwards()


# --- the gateway's own end ------------------------------------------------------------------


def boundaries(stream: bytes) -> list[int]:
    """Name the places between frames."""
    return [at for at in range(len(stream) + 1) if split_frames(stream[:at])[1] == b""]


def test_end_at_every_place_of_a_stream(way: Way) -> None:
    stream = everything(way)
    between = boundaries(stream)
    assert len(between) == 9
    answer = close(1001, b"me too", key=way.key)
    for place in range(len(stream) + 1):
        conversation = talk(way.lane(), masked=way.masked).feeds(stream[:place])
        held = place - len(conversation.out)
        conversation.ends(1012, "restart").feeds(stream[place:] + answer)
        # A header that was not yet passed on is as good as not begun.
        boundary = next(at for at in between if at >= place - held)
        out = bytes(conversation.out)
        assert out.startswith(stream[:boundary])
        (said,), rest = split_frames(out[boundary:])
        assert rest == b""
        assert (said.opcode, said.code, said.reason) == (CLOSE, 1012, "restart")
        assert said.masked is way.masked
        conversation.hears(1001, "me too")
        assert conversation.lane.finished


def test_end_is_said_at_once_between_frames(way: Way) -> None:
    conversation = talk(way.lane(), masked=way.masked).feeds(everything(way))
    conversation.forwards(everything(way)).ends(1001, "idle").closes(1001, "idle")


def test_end_before_the_first_byte(way: Way) -> None:
    talk(way.lane(), masked=way.masked).ends(1001).closes(1001).feeds(text(key=way.key)).forwards()


def test_end_before_the_first_byte_without_a_driver(way: Way) -> None:
    lane = way.lane()
    lane.end(1001, "")
    assert lane.halted
    assert bytes(lane.feed(text(key=way.key))) == b""
    assert lane.flush()
    assert not lane.halted


def test_end_inside_a_frame_waits_for_its_end(way: Way) -> None:
    stream = frame(BINARY, bytes(1000), key=way.key)
    conversation = talk(way.lane(), masked=way.masked).feeds(stream[:500]).forwards(stream[:500])
    conversation.ends(1012).forwards()
    assert conversation.lane.halted
    conversation.feeds(stream[500:700]).forwards(stream[500:700])
    conversation.feeds(stream[700:999]).forwards(stream[700:999])
    conversation.feeds(stream[999:]).first_forwards(stream[999:]).closes(1012)
    conversation.feeds(text(key=way.key)).forwards()


def test_after_the_end_the_senders_close_is_still_recognised(way: Way) -> None:
    stream = everything(way) + close(4000, b"done", key=way.key)
    for chunks in cuts(stream):
        conversation = talk(way.lane(), masked=way.masked).ends(1001).closes(1001)
        conversation.feeds(*chunks).forwards().hears(4000, "done")


def test_after_the_end_violations_are_still_recognised(way: Way) -> None:
    conversation = talk(way.lane(), masked=way.masked).ends(1001).closes(1001)
    conversation.feeds(everything(way), frame(3, key=way.key)).forwards().violates("opcode 3")


def test_end_while_a_close_is_half_received(way: Way) -> None:
    said = close(1000, b"bye", key=way.key)
    for place in range(1, len(said)):
        conversation = talk(way.lane(), masked=way.masked).feeds(said[:place]).ends(1001)
        conversation.closes(1001).feeds(said[place:]).forwards().hears(1000, "bye")


def test_a_close_that_came_in_one_chunk_with_the_end_of_a_frame(way: Way) -> None:
    """The gateway's Close takes the place of the sender's, which is heard nevertheless."""
    stream = text(key=way.key)
    conversation = talk(way.lane(), masked=way.masked).feeds(stream[:-1]).ends(1001)
    conversation.feeds(stream[-1:] + close(1000, key=way.key)).hears(1000)
    conversation.first_forwards(stream).closes(1001)


def test_the_first_end_counts(way: Way) -> None:
    lane = way.lane()
    lane.end(1001, "first")
    lane.end(1012, "second")
    talk(lane, masked=way.masked).feeds(b"").closes(1001, "first")


def test_a_finished_lane_cannot_be_ended(way: Way) -> None:
    calls: list[None] = []
    lane = way.lane()
    lane.wake = lambda: calls.append(None)
    talk(lane).feeds(close(1000, key=way.key)).ends(1001).hears(1000)
    assert lane.ending is None
    assert calls == []


def test_end_wakes_the_driver_once(way: Way) -> None:
    calls: list[None] = []
    lane = way.lane()
    lane.wake = lambda: calls.append(None)
    lane.end(1001, "")
    lane.end(1001, "")
    assert calls == [None]


def test_flush_without_an_end_says_nothing(way: Way) -> None:
    lane = way.lane()
    assert lane.flush() == b""
    lane.feed(close(1000, key=way.key))
    assert lane.flush() == b""


@given(st.data(), ways)
@settings(max_examples=examples(500), deadline=None)
def test_end_anywhere_in_any_traffic(data: st.DataObject, way: Way) -> None:
    flow = data.draw(traffic(way))
    place = data.draw(st.integers(0, len(flow.stream)))
    at = data.draw(st.lists(st.integers(0, 200_000), max_size=6))
    conversation = talk(way.lane(), masked=way.masked).feeds(*chop(flow.stream[:place], at))
    conversation.ends(1012, "restart").feeds(*chop(flow.stream[place:], at))
    seen, rest = split_frames(bytes(conversation.out))
    assert rest == b""
    *before, goodbye = seen
    assert (goodbye.code, goodbye.masked) == (1012, way.masked)
    sent, _ = split_frames(flow.stream)
    assert before == sent[: len(before)]
    assert conversation.lane.finished
