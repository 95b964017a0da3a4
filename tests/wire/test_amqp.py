"""AMQP without a socket: the handshake, deliveries, and what a hostile broker may send."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import body, commands, frame, header, heartbeat

from trio_gw.wire.amqp import AmqpConnection, AmqpEvent, AmqpReady
from trio_gw.wire.amqp_frames import (
    BODY_LIMIT,
    FRAME_MAX,
    AmqpDiscarded,
    AmqpError,
    AmqpMessage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = ("notification", "keymanager")
PASSWORD = "correct-horse"

START = commands.Connection.Start(0, 9, {"product": "RabbitMQ"}, "AMQPLAIN PLAIN", "en_US")
TUNE = commands.Connection.Tune(2047, 131072, 60)
HANDSHAKE: tuple[tuple[int, frame.FrameTypes], ...] = (
    (0, START),
    (0, TUNE),
    (0, commands.Connection.OpenOk()),
    (1, commands.Channel.OpenOk()),
    (1, commands.Basic.QosOk()),
    (1, commands.Queue.DeclareOk("amq.gen-1", 0, 0)),
    (1, commands.Queue.BindOk()),
    (1, commands.Queue.BindOk()),
    (1, commands.Basic.ConsumeOk("tag")),
)


def connection(beat: int = 10) -> AmqpConnection:
    return AmqpConnection(
        "admin", PASSWORD, "carbon", KEYS, heartbeat=beat, prefetch=500, name="test"
    )


def octets(*frames: tuple[int, frame.FrameTypes]) -> bytes:
    return b"".join(frame.marshal(method, channel) for channel, method in frames)


def events(amqp: AmqpConnection, data: bytes) -> list[AmqpEvent]:
    amqp.feed(data)
    found = []
    while (event := amqp.next_event()) is not None:
        found.append(event)
    return found


def sent(amqp: AmqpConnection) -> list[frame.FrameTypes]:
    data, found = amqp.data_to_send(), []
    while data:
        used, _, method = frame.unmarshal(data)
        found.append(method)
        data = data[used:]
    return found


def ready(beat: int = 10) -> AmqpConnection:
    amqp = connection(beat)
    assert events(amqp, octets(*HANDSHAKE)) == [AmqpReady("amq.gen-1")]
    amqp.data_to_send()
    return amqp


def opened(amqp: AmqpConnection) -> bool:
    return amqp.opened


def delivery(tag: int, data: bytes, key: str = "notification", piece: int = 1000) -> bytes:
    method = commands.Basic.Deliver("tag", tag, False, "amq.topic", key)
    properties = commands.Basic.Properties(content_type="text/plain", headers={"a": "b"})
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    return octets(
        (1, method),
        (1, header.ContentHeader(0, len(data), properties)),
        *((1, body.ContentBody(part)) for part in pieces),
    )


def test_the_handshake_asks_for_an_exclusive_queue_with_all_keys() -> None:
    amqp = connection()
    assert amqp.data_to_send() == b"AMQP\x00\x00\x09\x01"
    asked: list[frame.FrameTypes] = []
    for step in HANDSHAKE:
        found = events(amqp, octets(step))
        asked += sent(amqp)
    assert found == [AmqpReady("amq.gen-1")]
    names = [method.name for method in asked]
    assert names == [
        *("Connection.StartOk", "Connection.TuneOk", "Connection.Open", "Channel.Open"),
        *("Basic.Qos", "Queue.Declare", "Queue.Bind", "Queue.Bind", "Basic.Consume"),
    ]
    start, tune, opened, _, qos, declare, *binds, consume = asked
    assert isinstance(start, commands.Connection.StartOk)
    assert (start.mechanism, start.response) == ("PLAIN", f"\0admin\0{PASSWORD}")
    assert start.client_properties["connection_name"] == "test"
    assert isinstance(tune, commands.Connection.TuneOk)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 10)
    assert isinstance(opened, commands.Connection.Open)
    assert opened.virtual_host == "carbon"
    assert isinstance(qos, commands.Basic.Qos)
    assert (qos.prefetch_count, qos.global_) == (500, False)
    assert isinstance(declare, commands.Queue.Declare)
    assert (declare.queue, declare.durable) == ("", False)
    assert (declare.exclusive, declare.auto_delete) == (True, True)
    for key, bind in zip(KEYS, binds, strict=True):
        assert isinstance(bind, commands.Queue.Bind)
        assert (bind.queue, bind.exchange, bind.routing_key) == ("amq.gen-1", "amq.topic", key)
    assert isinstance(consume, commands.Basic.Consume)
    assert (consume.queue, consume.no_ack) == ("amq.gen-1", False)


@pytest.mark.parametrize(
    ("proposed", "agreed"),
    [
        ((0, 0, 0), (2047, 131072, 0)),
        ((1, 4096, 5), (1, 4096, 5)),
        ((65535, 1 << 20, 580), (2047, 131072, 10)),
    ],
)
def test_the_smaller_limits_count(
    proposed: tuple[int, int, int], agreed: tuple[int, int, int]
) -> None:
    amqp = connection()
    events(amqp, octets((0, START)))
    amqp.data_to_send()
    events(amqp, octets((0, commands.Connection.Tune(*proposed))))
    tune = sent(amqp)[0]
    assert isinstance(tune, commands.Connection.TuneOk)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == agreed
    assert amqp.heartbeat == agreed[2]


def test_messages_arrive_whole_and_are_acknowledged() -> None:
    amqp = ready()
    data = delivery(1, b"one") + delivery(2, b"", "keymanager") + delivery(3, b"x" * 2500)
    assert events(amqp, data) == [
        AmqpMessage(1, "notification", b"one"),
        AmqpMessage(2, "keymanager", b""),
        AmqpMessage(3, "notification", b"x" * 2500),
    ]
    amqp.acknowledge(3)
    (ack,) = sent(amqp)
    assert isinstance(ack, commands.Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (3, True)


@given(st.lists(st.binary(max_size=3000), max_size=4), st.data())
def test_it_does_not_matter_where_the_octets_are_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = octets(*HANDSHAKE)
    for tag, content in enumerate(bodies, 1):
        stream += delivery(tag, content) + octets((0, heartbeat.Heartbeat()))
    amqp, found = connection(), []
    while stream:
        size = data.draw(st.sampled_from([1, 2, 7, 100, 65536]))
        piece, stream = stream[:size], stream[size:]
        found += events(amqp, piece)
    messages = [event for event in found if isinstance(event, AmqpMessage)]
    assert [message.body for message in messages] == bodies


@pytest.mark.parametrize("size", [BODY_LIMIT + 1, 3 * BODY_LIMIT])
def test_a_large_message_is_discarded_and_the_next_one_arrives(size: int) -> None:
    amqp, limit = ready(), FRAME_MAX - 8
    stream = delivery(1, bytes(size), piece=limit) + delivery(2, bytes(BODY_LIMIT), piece=limit)
    found = events(amqp, stream)
    assert found == [AmqpDiscarded(1, size), AmqpMessage(2, "notification", bytes(BODY_LIMIT))]


def test_a_message_of_any_announced_size_takes_no_memory() -> None:
    amqp = ready()
    method = commands.Basic.Deliver("tag", 1, False, "amq.topic", "notification")
    events(amqp, octets((1, method), (1, header.ContentHeader(0, (1 << 63) - 1))))
    piece = octets((1, body.ContentBody(bytes(FRAME_MAX - 8))))
    for _ in range(100):
        assert events(amqp, piece) == []
    content = amqp._content
    assert content is not None
    assert len(content._body) == 0


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"AMQP\x00\x01\x00\x00", "another version"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak AMQP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "does not speak AMQP"),
        (b"\x01\x00\x00\x00\x00\x10\x00", "frame of 4104 octets"),
        (b"\x01\x00\x00\x00\x00\x00\x01xx", "without an end"),
        (b"\x01\x00\x00\x00\x00\x00\x00\xce", "not for a client"),
        (octets((0, commands.Connection.Start(0, 8))), "another version"),
        (octets((0, commands.Connection.Start(0, 9, {}, "EXTERNAL"))), "SASL PLAIN"),
        (octets((0, START), (0, commands.Connection.Tune(1, 100, 1))), "too small"),
        (octets((0, TUNE)), "Connection.Tune where the start"),
        (octets(*HANDSHAKE, (1, commands.Basic.Cancel("tag"))), "queue is gone"),
        (octets(*HANDSHAKE, (0, START)), "without a reason"),
        (octets(*HANDSHAKE, (1, commands.Queue.Declare())), "not for a client"),
        (octets(*HANDSHAKE, (1, body.ContentBody(b"x"))), "without a message"),
        (octets(*HANDSHAKE) + delivery(1, b"x") + delivery(1, b"x"), "out of order"),
        (octets(*HANDSHAKE) + delivery(1, b"xx")[:-10] + delivery(2, b"x"), "inside a message"),
    ],
)
def test_what_is_not_amqp_ends_the_connection(stream: bytes, why: str) -> None:
    amqp = connection()
    with pytest.raises(AmqpError, match=why):
        events(amqp, stream)


def test_more_content_than_announced_ends_the_connection() -> None:
    amqp = ready()
    method = commands.Basic.Deliver("tag", 1, False, "amq.topic", "notification")
    announced = octets((1, method), (1, header.ContentHeader(0, 2)))
    with pytest.raises(AmqpError, match="more content"):
        events(amqp, announced + octets((1, body.ContentBody(b"xxx"))))


@pytest.mark.parametrize("code", [403, 530])
def test_a_refused_login_is_told_from_other_reasons(code: int) -> None:
    amqp = connection()
    close = commands.Connection.Close(code, "ACCESS_REFUSED - Login was refused", 0, 0)
    with pytest.raises(AmqpError, match=f"{code} ACCESS_REFUSED") as caught:
        events(amqp, octets((0, START), (0, close)))
    assert caught.value.refused
    assert isinstance(sent(amqp)[-1], commands.Connection.CloseOk)


def test_a_broker_that_repeats_the_password_does_not_bring_it_to_the_log() -> None:
    amqp = connection()
    close = commands.Connection.Close(403, f"not {PASSWORD}, go away", 0, 0)
    with pytest.raises(AmqpError, match=r"403 not \*\*\*, go away"):
        events(amqp, octets((0, START), (0, close)))


def test_an_end_after_the_login_means_a_refused_login() -> None:
    amqp = connection()
    assert not amqp.end().refused
    events(amqp, octets((0, START)))
    assert amqp.end().refused
    events(amqp, octets((0, TUNE)))
    assert not amqp.end().refused


def test_a_refused_virtual_host_is_not_a_refused_login() -> None:
    amqp = connection()
    close = commands.Connection.Close(530, "NOT_ALLOWED - vhost carbon not found", 0, 0)
    with pytest.raises(AmqpError, match="virtual host 'carbon': 530") as caught:
        events(amqp, octets((0, START), (0, TUNE), (0, close)))
    assert not caught.value.refused


def test_a_closed_channel_is_confirmed() -> None:
    amqp = ready()
    with pytest.raises(AmqpError, match="closed the channel: 404 NOT_FOUND"):
        events(amqp, octets((1, commands.Channel.Close(404, "NOT_FOUND", 50, 20))))
    assert isinstance(sent(amqp)[-1], commands.Channel.CloseOk)
    assert amqp.opened


def test_the_close_waits_for_its_confirmation_and_nothing_else() -> None:
    amqp = ready()
    amqp.close()
    amqp.close()
    assert [method.name for method in sent(amqp)] == ["Connection.Close"]
    late = delivery(1, b"late") + octets((1, commands.Basic.Cancel("tag")))
    assert events(amqp, late) == []
    assert opened(amqp)
    assert events(amqp, octets((0, commands.Connection.CloseOk()))) == []
    assert not opened(amqp)
    assert events(amqp, delivery(2, b"later")) == []


def test_a_close_of_both_sides_at_once() -> None:
    amqp = ready()
    amqp.close()
    assert events(amqp, octets((0, commands.Connection.Close(320, "forced", 0, 0)))) == []
    assert not amqp.opened


def test_what_concerns_publishers_changes_nothing() -> None:
    amqp = ready()
    notes = octets((0, commands.Connection.Blocked("memory")), (0, commands.Connection.Unblocked()))
    assert events(amqp, notes + octets((1, commands.Channel.Flow(True)))) == []
    (answer,) = sent(amqp)
    assert isinstance(answer, commands.Channel.FlowOk)


def test_a_heartbeat_is_eight_octets() -> None:
    amqp = ready()
    amqp.beat()
    assert amqp.data_to_send() == heartbeat.Heartbeat().marshal()


def test_nested_tables_end_the_connection() -> None:
    table = b""
    for _ in range(640):
        table = b"\x00F" + struct.pack(">I", len(table)) + table
    arguments = struct.pack(">HHBB", 10, 10, 0, 9) + struct.pack(">I", len(table)) + table
    amqp = connection()
    with pytest.raises(AmqpError, match="malformed"):
        events(amqp, struct.pack(">BHI", 1, 0, len(arguments)) + arguments + b"\xce")


def survive(stream: bytes) -> None:
    """Feed a stream: only the declared exception is raised, and no text has the password."""
    amqp = connection()
    try:
        for start in range(0, len(stream), 512):
            events(amqp, stream[start : start + 512])
    except AmqpError as error:
        text = str(error)
    else:
        text = str(amqp.end())
    assert PASSWORD not in text
    assert amqp.data_to_send()


@given(st.binary(max_size=300), st.integers(0, len(HANDSHAKE)))
def test_any_octets_after_any_step(data: bytes, step: int) -> None:
    survive(octets(*HANDSHAKE[:step]) + data)


STREAM = octets(*HANDSHAKE) + delivery(1, b"one") + delivery(2, bytes(3000))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(STREAM) - 1), st.integers(0, 255)), max_size=8))
def test_changed_octets(changes: list[tuple[int, int]]) -> None:
    stream = bytearray(STREAM)
    for place, octet in changes:
        stream[place] = octet
    survive(bytes(stream))


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Whole frames whose payload is a known method with any arguments, or anything."""
    kind = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    method = draw(st.sampled_from([*commands.INDEX_MAPPING, 0]))
    payload = draw(st.binary(max_size=80))
    if kind == 1:
        payload = struct.pack(">I", method) + payload
    channel = draw(st.sampled_from([0, 1, 2]))
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


@settings(max_examples=400)
@given(st.integers(0, len(HANDSHAKE)), st.lists(payloads(), max_size=5))
def test_any_frames_after_any_step(step: int, frames: Sequence[bytes]) -> None:
    survive(octets(*HANDSHAKE[:step]) + b"".join(frames))
