"""The driver of messages where it differs from the others: what it bounds, judges and filters.

How connections end is the same; `test_drivers` says so for all drivers.
"""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.conversation import frame
from support.relays import inspected, inspected_memory, lockstep, memory, relaying, tcp
from trio_gw.errors import CloseCode, Ending, Side
from trio_gw.relay import messages
from trio_gw.relay.assembly import MAX_FRAGMENTS, Message
from trio_gw.relay.lane import Lane
from trio_gw.relay.messages import FILTERS
from trio_gw.relay.pump import Relayed
from trio_gw.relay.sizes import CHUNK
from trio_gw.wire.frames import BINARY, CONTINUATION, PING, PONG, TEXT, ViolationError

if TYPE_CHECKING:
    from trio.testing import MockClock

    from support.relays import Peer, Relay

NEVER = 3600
sides = pytest.mark.parametrize("by", ["client", "backend"])


def of(relay: Relay, by: str) -> tuple[Peer, Peer]:
    both = (relay.client, relay.backend)
    return both if by == "client" else both[::-1]


async def part_in_peace(relay: Relay) -> None:
    await relay.client.closes(1000)
    await relay.backend.is_told(1000)
    await relay.backend.closes(1000)
    await relay.client.is_told(1000)
    await relay.backend.hangs_up()
    await relay.ends("client", 1000)


async def is_refused(relay: Relay, one: Peer, other: Peer, code: int, reason: str) -> None:
    """Both are told why, and nothing else arrives."""
    by = "client" if one is relay.client else "backend"
    await one.is_told(code, f"{by}: {reason}")
    await other.is_told(code, reason)
    await other.closes(code)
    await other.hangs_up()
    await one.hangs_up()
    await relay.ends(by, code, f"{by}: {reason}")


@sides
async def test_types_and_payloads_are_kept(by: str) -> None:
    async with relaying(inspected, close_timeout=NEVER) as relay:
        one, other = of(relay, by)
        for opcode, payload in (
            (TEXT, b""),
            (BINARY, b""),
            (TEXT, "gr\u00fc\u00df dich \U0001f600".encode()),
            (BINARY, bytes(range(256)) * 300),
            (TEXT, b"x" * (1 << 20)),
        ):
            await one.sends(frame(opcode, payload, key=one.key))
            seen = await other.gets()
            assert (seen.first, seen.payload) == (0x80 | opcode, payload)
            assert seen.masked is (other is relay.backend)
        await part_in_peace(relay)
    assert (relay.publish.messages + relay.subscribe.messages) == 5


@sides
async def test_fragments_arrive_as_one_and_pings_between_them(by: str) -> None:
    async with relaying(inspected, close_timeout=NEVER) as relay:
        one, other = of(relay, by)
        await one.sends(frame(TEXT, b"gr\xc3", fin=False, key=one.key))
        await one.sends(frame(PING, b"there?", key=one.key))
        seen = await other.gets()
        assert (seen.opcode, seen.payload) == (PING, b"there?")
        await other.sends(frame(PONG, b"there?", key=other.key))
        seen = await one.gets()
        assert (seen.opcode, seen.payload) == (PONG, b"there?")
        await one.sends(frame(CONTINUATION, b"", fin=False, key=one.key))
        await one.sends(frame(CONTINUATION, b"\xbc\xc3\x9f", key=one.key))
        seen = await other.gets()
        assert (seen.first, seen.payload) == (0x80 | TEXT, "gr\u00fc\u00df".encode())
        await part_in_peace(relay)


@sides
@pytest.mark.parametrize("cut", range(6))
async def test_text_that_is_not_utf8(by: str, cut: int) -> None:
    bad = b"ok \xc3\x28!"
    async with relaying(inspected, close_timeout=NEVER) as relay:
        one, other = of(relay, by)
        await one.sends(frame(TEXT, b"fine", key=one.key))
        await one.sends(frame(TEXT, bad[:cut], fin=False, key=one.key))
        await one.sends(frame(CONTINUATION, bad[cut:], key=one.key))
        await one.says(b"not passed")
        await one.closes(1000)
        assert (await other.gets()).payload == b"fine"
        await is_refused(relay, one, other, 1007, "text that is not UTF-8 at byte 3")


@sides
async def test_binary_need_not_be_utf8(by: str) -> None:
    async with relaying(inspected, close_timeout=NEVER) as relay:
        one, other = of(relay, by)
        await one.says(b"\xff\xfe")
        await other.hears(b"\xff\xfe")
        await part_in_peace(relay)


@sides
@pytest.mark.parametrize("fragments", [1, 3])
async def test_the_limit(by: str, fragments: int) -> None:
    limit = 3000
    async with relaying(inspected, limit_of_message=limit, close_timeout=NEVER) as relay:
        one, other = of(relay, by)
        for size in (limit - 1, limit, limit + 1):
            step = -(-size // fragments)
            for at in range(0, size, step):
                opcode = BINARY if at == 0 else CONTINUATION
                payload = bytes(min(step, size - at))
                last = at + step >= size
                await one.sends(frame(opcode, payload, fin=last, key=one.key))
            if size <= limit:
                await other.hears(bytes(size))
        await is_refused(relay, one, other, 1009, "message of more than 3000 bytes")


@sides
async def test_a_flood_of_empty_fragments(by: str) -> None:
    async with relaying(inspected, close_timeout=NEVER) as relay:
        one, other = of(relay, by)
        flood = frame(CONTINUATION, fin=False, key=one.key) * MAX_FRAGMENTS
        await one.sends(frame(TEXT, fin=False, key=one.key) + flood)
        await is_refused(relay, one, other, 1009, "message of more than 4096 fragments")


@sides
async def test_a_flood_of_pings_is_held_up_by_who_does_not_read(
    by: str, autojump_clock: MockClock
) -> None:
    """None is answered, kept or lost: they are as much under backpressure as anything."""
    with trio.fail_after(60):
        near, far = await memory()
        left, right = await lockstep()
        client, backend = ((near, far), (left, right))[:: 1 if by == "client" else -1]
        lanes = Lane(masked=True), Lane(masked=False)
        key = b"abcd" if by == "client" else None
        count = 20_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_carry, client[1], backend[1], *lanes)
            await near.send_all(frame(PING, b"x" * 100, key=key) * count)
            await trio.testing.wait_all_tasks_blocked()
            lane = lanes[0] if by == "client" else lanes[1]
            assert lane.octets <= 2 * CHUNK
            taken = 0
            while taken < count * len(frame(PING, b"x" * 100, key=key)):
                taken += len(await left.receive_some(1 << 16))
            nursery.cancel_scope.cancel()


async def _carry(client: Any, backend: Any, publish: Lane, subscribe: Lane) -> None:
    relayed = Relayed(client, backend, publish, subscribe)
    await messages.carry(relayed, close_timeout=5, limit=1000)


@sides
async def test_a_slow_reader_holds_up_the_sender(by: str, autojump_clock: MockClock) -> None:
    """What is read ahead are one chunk and one message."""
    with trio.fail_after(60):
        near, far = await memory()
        left, right = await lockstep()
        client, backend = ((near, far), (left, right))[:: 1 if by == "client" else -1]
        lanes = Lane(masked=True), Lane(masked=False)
        one = frame(BINARY, bytes(900), key=b"abcd" if by == "client" else None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_carry, client[1], backend[1], *lanes)
            await near.send_all(one * 1000)
            await trio.testing.wait_all_tasks_blocked()
            lane = lanes[0] if by == "client" else lanes[1]
            assert lane.octets <= CHUNK
            nursery.cancel_scope.cancel()


# --- filters --------------------------------------------------------------------------------


async def test_a_filter_sees_changes_drops_and_refuses() -> None:
    seen: list[tuple[Message, Side, Any]] = []

    async def look(message: Message, direction: Side, session: Any) -> Message | None:
        seen.append((message, direction, session))
        await trio.lowlevel.checkpoint()
        if message.payload == b"drop":
            return None
        if message.payload == b"refuse":
            raise ViolationError("not like this", CloseCode.POLICY)
        return Message(message.payload.upper(), text=True)

    filters = {**FILTERS, "look": look}
    async with relaying(inspected, filters=filters, close_timeout=NEVER) as relay:
        await relay.client.says(b"one")
        got = await relay.backend.gets()
        assert (got.opcode, got.payload) == (TEXT, b"ONE")
        await relay.backend.sends(frame(TEXT, b"drop"))
        await relay.backend.sends(frame(TEXT, b"two"))
        assert (await relay.client.gets()).payload == b"TWO"
        await relay.client.says(b"refuse")
        await is_refused(relay, relay.client, relay.backend, 1008, "not like this")
    assert seen == [
        (Message(b"one", text=False), Side.CLIENT, None),
        (Message(b"drop", text=True), Side.BACKEND, None),
        (Message(b"two", text=True), Side.BACKEND, None),
        (Message(b"refuse", text=False), Side.CLIENT, None),
    ]


async def test_a_bug_in_a_filter_leaves_nothing_open() -> None:
    async def look(message: Message, _direction: Side, _session: Any) -> Message:
        raise LookupError(message)

    near, far = await tcp()
    left, right = await tcp()
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True), trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await near.send_all(frame(BINARY, b"x", key=b"abcd"))
            nursery.start_soon(_with_filter, far, right, look)
    assert await near.receive_some() == b""
    assert await left.receive_some() == b""
    await near.aclose()
    await left.aclose()


async def _with_filter(client: Any, backend: Any, look: messages.Filter) -> Ending:
    lanes = Lane(masked=True), Lane(masked=False)
    return await messages.carry(
        Relayed(client, backend, *lanes), close_timeout=5, limit=1000, filters={"look": look}
    )


async def test_early_frames_are_looked_at_too() -> None:
    early = frame(TEXT, b"\xff", key=b"abcd"), frame(BINARY, b"welcome")
    async with relaying(inspected_memory, early=early, close_timeout=NEVER) as relay:
        seen = await relay.client.gets()
        if seen.opcode == BINARY:
            assert seen.payload == b"welcome"
            seen = await relay.client.gets()
        assert seen.code == 1007
        await relay.backend.is_told(1007)
        await relay.client.hangs_up()
        await relay.backend.hangs_up()
        await relay.ends("client", 1007)


async def test_a_reader_that_stalls_keeps_one_frame_and_one_chunk() -> None:
    """Of a message, its parts and its frame only the frame is left while it waits to be taken."""
    size = 1 << 16
    whole = frame(BINARY, bytes(size))
    async with relaying(inspected, close_timeout=1, limit=size) as relay:

        async def pour() -> None:
            while True:
                await relay.backend.sends(whole)

        tracemalloc.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pour)
                await trio.testing.wait_all_tasks_blocked(0.1)
                kept = tracemalloc.take_snapshot()
                nursery.cancel_scope.cancel()
        finally:
            tracemalloc.stop()
        large = [trace.size for trace in kept.traces if trace.size > 4096]
        assert size <= sum(large) < 1.5 * size
        relay.scope.cancel()
