"""Two lanes driven over streams: every way to end, and never a hang or an open stream.

Where a deadline matters, time is virtual and streams are in memory. Over loopback, where the
kernel has its say (resets, half-closed sockets), no test gets near a deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio
import trio.testing

from support.conversation import KEY, close, frame
from support.relays import (
    MESSAGES,
    fast_path,
    fast_path_tls,
    inspected,
    inspected_memory,
    lockstep,
    memory,
    relaying,
    tcp,
    tls,
)
from trio_gw.relay.sizes import CHUNK
from trio_gw.wire.frames import BINARY, CLOSE, CONTINUATION, TEXT

if TYPE_CHECKING:
    from trio.testing import MockClock

    from support.relays import MakePair, Peer, Relay

NEVER = 3600  # seconds: a deadline that no test over loopback reaches


def kinds(*pairs: MakePair) -> pytest.MarkDecorator:
    """Run a test over these kinds of connections.

    `tunnel` drives the fast path, `messages` inspects messages, and `pump` drives the rest.
    """
    return pytest.mark.parametrize("pair", pairs, ids=lambda pair: pair.__name__)


anywhere = kinds(memory, tcp, tls, fast_path, fast_path_tls, inspected, inspected_memory)
below_tls = kinds(memory, tcp, fast_path, inspected, inspected_memory)
poller = kinds(tcp, fast_path, inspected)


class Roles(NamedTuple):
    """One test from both sides: who acts, who is left, and what the latter is told of a loss."""

    by: str
    lost_code: int

    def of(self, relay: Relay) -> tuple[Peer, Peer]:
        both = (relay.client, relay.backend)
        return both if self.by == "client" else both[::-1]


@pytest.fixture(params=[Roles("client", 1001), Roles("backend", 1011)], ids=lambda roles: roles.by)
def roles(request: pytest.FixtureRequest) -> Roles:
    assert isinstance(request.param, Roles)
    return request.param


# --- the ordinary way -----------------------------------------------------------------------


@anywhere
async def test_both_ways(pair: MakePair) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        for payload in (b"", b"one", b"x" * 70_000, b"two"):
            await relay.client.says(payload)
            await relay.backend.hears(payload)
            await relay.backend.says(payload[::-1])
            await relay.client.hears(payload[::-1])
        await relay.client.closes(1000, b"bye")
        await relay.backend.is_told(1000, "bye")
        await relay.backend.closes(1000, b"ok")
        await relay.client.is_told(1000, "ok")
        await relay.client.is_left()
        await relay.backend.hangs_up()
        await relay.ends("client", 1000, "bye")
    assert (relay.publish.messages, relay.subscribe.messages) == (4, 4)


@anywhere
@pytest.mark.parametrize(
    ("code", "reason"),
    [(None, b""), (1000, b""), (1001, b"r" * 123), (1014, b""), (3000, b"\xc3\xbc"), (4999, b"x")],
)
async def test_close_from_either_side(
    pair: MakePair, roles: Roles, code: int | None, reason: bytes
) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.closes(code, reason)
        await other.is_told(code or 1005)
        await other.closes(code, b"")
        await one.is_told(code or 1005)
        # The backend is the server of its connection, so it closes first (RFC 6455 §7.1.1).
        await relay.client.is_left()
        await relay.backend.hangs_up()
        await relay.ends(roles.by, code or 1005, reason.decode())


@anywhere
async def test_data_still_flows_to_the_one_who_closed(pair: MakePair, roles: Roles) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.closes(1000)
        await other.is_told(1000)
        await other.says(b"last words")
        await other.closes(1000)
        await one.hears(b"last words")
        await one.is_told(1000)
        await relay.backend.hangs_up()
        await relay.ends(roles.by, 1000)


async def test_a_close_that_is_never_answered(roles: Roles, autojump_clock: MockClock) -> None:
    async with relaying() as relay:
        one, other = roles.of(relay)
        began = trio.current_time()
        await one.closes(1000, b"bye")
        await other.is_told(1000)
        await relay.ends(roles.by, 1000, "bye")
        assert trio.current_time() - began == 5
        await one.is_left()
        await other.is_left()


async def test_a_backend_that_does_not_hang_up(autojump_clock: MockClock) -> None:
    async with relaying() as relay:
        began = trio.current_time()
        await relay.client.closes(1000)
        await relay.backend.is_told(1000)
        await relay.backend.closes(1000)
        await relay.client.is_told(1000)
        await relay.client.is_left()
        assert trio.current_time() == began
        await relay.ends("client", 1000)
        assert trio.current_time() - began == 5


@anywhere
async def test_closes_that_cross(pair: MakePair) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.client.closes, 1000)
            nursery.start_soon(relay.backend.closes, 1001)
        await relay.client.is_told(1001)
        await relay.backend.is_told(1000)
        await relay.client.is_left()
        await relay.backend.hangs_up()
        await relay.over.wait()
        assert relay.ending is not None
        assert (relay.ending.by, relay.ending.code) in {("client", 1000), ("backend", 1001)}


# --- early bytes ----------------------------------------------------------------------------


@anywhere
async def test_early_bytes_come_first(pair: MakePair) -> None:
    begun = frame(BINARY, b"early", key=KEY)
    early = begun[:4], frame(BINARY, b"welcome") + frame(TEXT, b"x")[:1]
    async with relaying(pair, early=early, close_timeout=NEVER) as relay:
        await relay.client.hears(b"welcome")
        await relay.backend.sends(frame(TEXT, b"x")[1:])
        assert (await relay.client.gets()).payload == b"x"
        await relay.client.sends(begun[4:])
        await relay.backend.hears(b"early")
        await relay.client.closes()
        await relay.backend.closes()
        await relay.backend.hangs_up()
        await relay.ends("client", 1000)


@anywhere
async def test_an_early_close(pair: MakePair) -> None:
    early = b"", frame(BINARY, b"sorry") + close(1013, b"busy")
    async with relaying(pair, early=early, close_timeout=NEVER) as relay:
        await relay.client.hears(b"sorry")
        await relay.client.is_told(1013, "busy")
        await relay.client.closes(1013)
        await relay.backend.is_told(1013)
        await relay.backend.hangs_up()
        await relay.ends("backend", 1013, "busy")


@anywhere
async def test_an_early_second_request(pair: MakePair) -> None:
    early = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""
    async with relaying(pair, early=early, close_timeout=NEVER) as relay:
        await relay.client.is_told(1002)
        await relay.backend.is_told(1002)
        await relay.client.hangs_up()
        await relay.backend.hangs_up()
        await relay.ends("client", 1002)


# --- a side is lost -------------------------------------------------------------------------


@anywhere
async def test_lost_between_frames(pair: MakePair, roles: Roles) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.says(b"last")
        await other.hears(b"last")
        await one.hangs_up()
        await other.is_told(roles.lost_code, f"{roles.by} connection lost")
        await other.closes(roles.lost_code)
        await other.hangs_up()
        await relay.ends(roles.by, 1006, "connection lost")


@anywhere
@pytest.mark.parametrize("part", [1, 2, 5])
async def test_lost_inside_a_header_is_between_frames(
    pair: MakePair, roles: Roles, part: int
) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.sends(close(1000, b"never finished", key=one.key)[:part])
        await one.hangs_up()
        await other.is_told(roles.lost_code)
        await other.hangs_up()
        await relay.ends(roles.by, 1006)


@anywhere
async def test_lost_inside_a_frame(pair: MakePair, roles: Roles) -> None:
    """No Close can be said inside a frame: the other side sees the connection end."""
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        part = frame(BINARY, b"x" * 100, key=one.key)[:50]
        await one.sends(part)
        await one.hangs_up()
        if pair in MESSAGES:  # of half a message nothing has been sent, so a Close can be
            await other.is_told(roles.lost_code, f"{roles.by} connection lost")
        else:
            await other.is_left(part)
        await other.hangs_up()
        await relay.ends(roles.by, 1006, "connection lost")


@anywhere
@pytest.mark.parametrize("code", [None, 1000, 4001])
async def test_lost_instead_of_answering_a_close(
    pair: MakePair, roles: Roles, code: int | None
) -> None:
    """The gateway answers in the place of the one who went, with the code it was told."""
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await other.closes(code)
        await one.is_told(code or 1005)
        await one.hangs_up()
        await other.is_told(code or 1005)
        await other.hangs_up()
        await relay.ends("backend" if roles.by == "client" else "client", code or 1005)


async def test_the_one_who_is_left_does_not_answer(roles: Roles, autojump_clock: MockClock) -> None:
    async with relaying() as relay:
        one, other = roles.of(relay)
        began = trio.current_time()
        await one.hangs_up()
        await other.is_told(roles.lost_code)
        await other.is_left()
        await relay.ends(roles.by, 1006)
        assert trio.current_time() - began == 5


@below_tls
async def test_half_closed(pair: MakePair, roles: Roles) -> None:
    """Who stops sending without a Close is told so, and can read it."""
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.says(b"last")
        await one.stops_sending()
        await other.hears(b"last")
        await other.is_told(roles.lost_code)
        await other.closes(roles.lost_code)
        await one.is_told(1002, "connection ended without a Close frame")
        await other.hangs_up()
        await one.is_left()
        await relay.ends(roles.by, 1006)


@below_tls
async def test_half_closed_inside_a_frame_of_the_other(pair: MakePair, roles: Roles) -> None:
    """The Close waits for the end of the frame that is under way."""
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        under_way = frame(BINARY, b"x" * 100, key=other.key)
        await other.sends(under_way[:50])
        await relay.took(other, 50)
        await one.stops_sending()
        await other.is_told(roles.lost_code)
        await other.sends(under_way[50:] + close(1000, key=other.key))
        await one.hears(b"x" * 100)
        await one.is_told(1002)
        await other.hangs_up()
        await relay.ends(roles.by, 1006)


@anywhere
async def test_both_hang_up(pair: MakePair) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        await relay.client.hangs_up()
        await relay.backend.hangs_up()
        await relay.over.wait()
        assert relay.ending is not None
        assert relay.ending.code == 1006


async def test_one_who_cannot_be_sent_to(roles: Roles, autojump_clock: MockClock) -> None:
    """Half a connection is gone, the other half never says so: the deadline ends it."""
    async with relaying() as relay:
        one, other = roles.of(relay)
        assert isinstance(one.stream, trio.StapledStream)
        await one.stream.receive_stream.aclose()
        await other.says(b"nobody hears")
        await relay.ends(roles.by, 1006)


@kinds(tls, fast_path_tls)
async def test_lost_without_the_end_that_tls_asks_for(pair: MakePair, roles: Roles) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        assert isinstance(one.stream, trio.SSLStream)
        await one.says(b"last")
        await one.stream.transport_stream.aclose()
        await other.hears(b"last")
        await other.is_told(roles.lost_code)
        await other.hangs_up()
        await relay.ends(roles.by, 1006)


@poller
async def test_reset_of_a_tcp_connection(pair: MakePair, roles: Roles) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.says(b"last")
        await other.hears(b"last")
        await one.resets()
        await other.is_told(roles.lost_code)
        await other.closes(roles.lost_code)
        await other.hangs_up()
        await relay.ends(roles.by, 1006)


@poller
async def test_reset_of_a_tcp_connection_that_is_being_sent_to(
    pair: MakePair, roles: Roles
) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        lane = relay.subscribe if roles.by == "client" else relay.publish
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_floods, other)
            # The flood stops when all buffers between here and there are full.
            before = -1
            while lane.octets != before:
                before = lane.octets
                await trio.testing.wait_all_tasks_blocked(0.01)
            await one.resets()
            nursery.cancel_scope.cancel()
        await other.stops_sending()
        await relay.ends(roles.by, 1006)


async def _floods(peer: Peer) -> None:
    bulk = frame(BINARY, bytes(1 << 20), key=peer.key)
    while True:
        await peer.sends(bulk)


@poller
async def test_reset_of_both_tcp_connections(pair: MakePair) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        await relay.client.resets()
        await relay.backend.resets()
        await relay.over.wait()
        assert relay.ending is not None
        assert relay.ending.code == 1006


# --- violations -----------------------------------------------------------------------------


@anywhere
async def test_a_violation_is_told_to_both(pair: MakePair, roles: Roles) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.says(b"fine")
        await one.sends(frame(CONTINUATION, b"bad", key=one.key))
        await other.hears(b"fine")
        await other.is_told(1002)
        await one.is_told(1002)
        await other.closes(1002)
        await other.hangs_up()
        await one.is_left()
        await one.hangs_up()
        await relay.ends(roles.by, 1002, f"{roles.by}: continuation without a message to continue")


@anywhere
async def test_a_violation_may_have_its_own_code(pair: MakePair, roles: Roles) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.closes(1000, b"\xff")
        await other.is_told(1007)
        await one.is_told(1007)
        await other.hangs_up()
        await one.hangs_up()
        await relay.ends(roles.by, 1007)


@kinds(memory, tcp, tls, fast_path, fast_path_tls)
async def test_a_message_that_is_too_big(pair: MakePair, roles: Roles) -> None:
    async with relaying(pair, most=10, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.says(bytes(10))
        await other.hears(bytes(10))
        await one.says(bytes(11))
        for peer in (one, other):
            await peer.is_told(1009)
        await other.closes(1009)
        await other.hangs_up()
        await one.is_left()
        await one.hangs_up()
        await relay.ends(roles.by, 1009, f"{roles.by}: message of more than 10 bytes")


async def test_who_broke_the_protocol_goes_on_sending(
    roles: Roles, autojump_clock: MockClock
) -> None:
    async with relaying() as relay:
        one, other = roles.of(relay)
        async with trio.open_nursery() as nursery:
            await one.sends(frame(7, key=one.key))
            nursery.start_soon(_babbles, one)
            await one.is_told(1002)
            await other.is_told(1002)
            await other.hangs_up()
            await relay.ends(roles.by, 1002)
            nursery.cancel_scope.cancel()


async def _babbles(peer: Peer) -> None:
    while True:
        try:
            await peer.sends(b"\xff" * 100)
        except trio.BrokenResourceError:
            return
        await trio.sleep(0.1)


@anywhere
async def test_an_answer_that_breaks_the_protocol(pair: MakePair, roles: Roles) -> None:
    """The first to say why decides the ending."""
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.closes(1000, b"bye")
        await other.is_told(1000)
        await other.closes(1005)
        await one.is_told(1002)
        await one.hangs_up()
        await other.is_left()
        await other.hangs_up()
        await relay.ends(roles.by, 1000, "bye")


# --- the gateway ends -----------------------------------------------------------------------


@anywhere
async def test_end_while_idle(pair: MakePair) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        relay.end(1012, "restart")
        await relay.client.is_told(1012, "restart")
        await relay.backend.is_told(1012, "restart")
        await relay.client.closes(1012)
        await relay.backend.closes(1012)
        await relay.client.is_left()
        await relay.backend.hangs_up()
        await relay.ends("gateway", 1012, "restart")


@anywhere
async def test_end_inside_frames(pair: MakePair) -> None:
    async with relaying(pair, close_timeout=NEVER) as relay:
        for one in (relay.client, relay.backend):
            await one.sends(frame(BINARY, b"x" * 100, key=one.key)[:50])
        await relay.took(relay.client, 50)
        await relay.took(relay.backend, 50)
        relay.end(1012)
        for one in (relay.client, relay.backend):
            rest = frame(BINARY, b"x" * 100, key=one.key)[50:]
            await one.sends(rest + frame(BINARY, b"not passed", key=one.key))
            await one.closes(1000)
        for one in (relay.client, relay.backend):
            await one.hears(b"x" * 100)
            await one.is_told(1012)
        await relay.backend.hangs_up()
        await relay.ends("gateway", 1012)
    assert relay.publish.close is not None
    assert relay.subscribe.close is not None


async def test_end_inside_a_frame_that_is_never_finished(autojump_clock: MockClock) -> None:
    async with relaying() as relay:
        part = frame(BINARY, b"x" * 100, key=KEY)[:50]
        await relay.client.sends(part)
        await trio.testing.wait_all_tasks_blocked()
        relay.end(1012)
        await relay.client.is_told(1012)
        await relay.backend.is_left(part)
        await relay.ends("gateway", 1012)


async def test_end_and_nobody_answers(autojump_clock: MockClock) -> None:
    async with relaying() as relay:
        began = trio.current_time()
        relay.end(1001, "idle")
        await relay.client.is_told(1001, "idle")
        await relay.backend.is_told(1001, "idle")
        await relay.ends("gateway", 1001, "idle")
        assert trio.current_time() - began == 5


async def test_end_while_a_send_is_blocked(roles: Roles, autojump_clock: MockClock) -> None:
    async with relaying(lockstep) as relay:
        one, _ = roles.of(relay)
        began = trio.current_time()
        await one.says(b"taken by the gateway, by nobody else")
        await trio.testing.wait_all_tasks_blocked()
        relay.end(1012)
        await relay.ends("gateway", 1012)
        assert trio.current_time() - began == 5


async def test_end_while_a_send_is_blocked_that_goes_through_after_all(
    roles: Roles, autojump_clock: MockClock
) -> None:
    async with relaying(lockstep) as relay:
        one, other = roles.of(relay)
        began = trio.current_time()
        await one.says(b"slowly taken")
        await trio.testing.wait_all_tasks_blocked()
        relay.end(1012)
        await other.hears(b"slowly taken")
        await other.is_told(1012)
        await one.is_told(1012)
        assert trio.current_time() == began
        await relay.ends("gateway", 1012)


@poller
async def test_end_while_a_tcp_send_is_blocked_cuts_no_frame(pair: MakePair) -> None:
    bulk = frame(BINARY, bytes(1 << 20))
    async with relaying(pair, close_timeout=NEVER) as relay:
        sent = 0
        async with trio.open_nursery() as nursery:

            async def floods() -> None:
                nonlocal sent
                while not relay.subscribe.finished:
                    await relay.backend.sends(bulk)
                    sent += 1

            nursery.start_soon(floods)
            before = -1
            while relay.subscribe.octets != before:
                before = relay.subscribe.octets
                await trio.testing.wait_all_tasks_blocked(0.01)
            relay.end(1012)
            received = 0
            while (seen := await relay.client.gets()).opcode == BINARY:
                assert seen.payload == bytes(1 << 20)
                received += 1
        assert (seen.opcode, seen.code) == (CLOSE, 1012)
        assert 0 < received <= sent
        await relay.client.closes(1012)
        await relay.backend.closes(1012)
        await relay.backend.hangs_up()
        await relay.ends("gateway", 1012)


@anywhere
async def test_end_before_the_relay_begins(pair: MakePair) -> None:
    early = frame(BINARY, b"not passed", key=KEY), b""
    async with relaying(pair, early=early, close_timeout=NEVER, end_first=1012) as relay:
        await relay.client.is_told(1012)
        await relay.backend.is_told(1012)
        await relay.client.closes(1000)
        await relay.backend.closes(1000)
        await relay.backend.hangs_up()
        await relay.ends("gateway", 1012)


@anywhere
async def test_end_in_the_moment_in_which_a_frame_arrives(pair: MakePair, roles: Roles) -> None:
    """A chunk that was received is sent on, although its reader was just told to stop."""
    for part in (60, 100, 105):
        async with relaying(pair, close_timeout=NEVER) as relay:
            one, other = roles.of(relay)
            whole = frame(BINARY, b"x" * 100, key=one.key)
            await one.sends(whole[:50])
            await relay.took(one, 50)
            await trio.testing.wait_all_tasks_blocked()
            await one.sends(whole[50:part])
            relay.end(1012)
            await one.sends(whole[part:] + close(1000, key=one.key))
            await other.hears(b"x" * 100)
            await other.is_told(1012)
            await one.is_told(1012)
            await other.closes(1012)
            await relay.backend.hangs_up()
            await relay.ends("gateway", 1012)


async def test_end_of_one_lane_alone(roles: Roles, autojump_clock: MockClock) -> None:
    async with relaying() as relay:
        one, other = roles.of(relay)
        lane = relay.publish if roles.by == "client" else relay.subscribe
        lane.end(1008, "limit")
        await other.is_told(1008)
        await other.closes(1008)
        await one.is_told(1008)
        await relay.ends("gateway", 1008, "limit")


async def test_end_is_harmless_when_all_is_over(autojump_clock: MockClock) -> None:
    async with relaying() as relay:
        await relay.client.hangs_up()
        await relay.backend.hangs_up()
        await relay.over.wait()
        relay.end(1012)
        await relay.over.wait()
        assert relay.ending is not None
        assert relay.ending.code == 1006


@anywhere
async def test_end_crosses_a_close(pair: MakePair, roles: Roles) -> None:
    """Whichever came first: both are told, and each Close is heard."""
    async with relaying(pair, close_timeout=NEVER) as relay:
        one, other = roles.of(relay)
        await one.closes(1000)
        relay.end(1012)
        seen = await other.gets()
        assert (seen.opcode, seen.code) in {(CLOSE, 1000), (CLOSE, 1012)}
        await one.is_told(1012)
        await other.closes(1000)
        await relay.client.is_left()
        await relay.backend.hangs_up()
        await relay.over.wait()
        assert relay.ending is not None
        assert (relay.ending.by, relay.ending.code) in {("gateway", 1012), (roles.by, 1000)}
    assert relay.publish.close is not None
    assert relay.subscribe.close is not None


# --- backpressure ---------------------------------------------------------------------------


async def test_no_more_than_one_chunk_is_read_ahead(
    roles: Roles, autojump_clock: MockClock
) -> None:
    """The one sends without limit, the other takes what it wants to take."""
    fast, slow = (memory, lockstep) if roles.by == "client" else (lockstep, memory)
    async with relaying(fast, slow) as relay:
        one, other = roles.of(relay)
        lane = relay.publish if roles.by == "client" else relay.subscribe
        payload = bytes(10 * CHUNK)
        await one.says(payload)
        await one.closes(1000)
        header = len(frame(BINARY, payload, key=one.key)) - len(payload)
        taken = 0
        while taken < header + len(payload):
            await trio.testing.wait_all_tasks_blocked()
            assert lane.octets <= taken + CHUNK
            wanted = min(5000, header + len(payload) - taken)
            taken += len(await other.stream.receive_some(wanted))
        await other.is_told(1000)
        await relay.ends(roles.by, 1000)


async def test_a_stalled_side_does_not_hold_up_the_other_direction(
    autojump_clock: MockClock,
) -> None:
    async with relaying(memory, lockstep) as relay:
        await relay.client.says(b"x" * 10)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.backend.says, b"still here")
            await relay.client.hears(b"still here")
        await relay.backend.hears(b"x" * 10)
        relay.scope.cancel()


# --- cancellation, at any moment ------------------------------------------------------------


async def _chat(relay: Relay) -> None:
    """Talk, and close in good order."""
    await relay.client.says(b"one")
    await relay.backend.hears(b"one")
    await relay.backend.says(b"two" * 1000)
    await relay.client.hears(b"two" * 1000)
    await relay.client.closes(1000)
    await relay.backend.is_told(1000)
    await relay.backend.closes(1000)
    await relay.client.is_told(1000)
    await relay.backend.hangs_up()


async def _chat_until_it_breaks(relay: Relay) -> None:
    try:
        await _chat(relay)
    except (AssertionError, trio.BrokenResourceError):
        assert relay.scope.cancel_called or relay.publish.ending


@kinds(memory, lockstep, tcp, tls, fast_path, fast_path_tls, inspected)
async def test_cancelled_after_any_number_of_ticks(pair: MakePair) -> None:
    """`relaying` says for each of them that both streams are closed."""
    finished = 0
    for ticks in range(120):
        async with relaying(pair, close_timeout=NEVER) as relay, trio.open_nursery() as nursery:
            nursery.start_soon(_chat_until_it_breaks, relay)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            relay.scope.cancel()
            await relay.over.wait()
            finished += relay.ending is not None
            nursery.cancel_scope.cancel()
    assert finished < 120, "the sweep never met a relay under way"


@kinds(memory, lockstep)
async def test_ended_after_any_number_of_ticks(pair: MakePair, autojump_clock: MockClock) -> None:
    """Whatever is under way: only whole frames arrive, the last of them a Close."""
    codes = set()
    for ticks in range(120):
        async with relaying(pair) as relay, trio.open_nursery() as nursery:
            heard: dict[str, list[int]] = {"client": [], "backend": []}

            async def listens(peer: Peer, opcodes: list[int]) -> None:
                while CLOSE not in opcodes:
                    seen = await peer.gets()
                    assert seen.opcode == CLOSE or seen.payload in (b"a" * 50, b"b" * 50)
                    opcodes.append(seen.opcode)
                await peer.closes(1000)
                await peer.is_left()
                await peer.hangs_up()

            async def talks(peer: Peer, octet: bytes, opcodes: list[int]) -> None:
                whole = frame(BINARY, octet * 50, key=peer.key)
                for at in range(0, 1000, 7):
                    if CLOSE in opcodes and at % len(whole) < 7:
                        return
                    await peer.sends((whole * 2)[at % len(whole) :][:7])

            nursery.start_soon(listens, relay.client, heard["client"])
            nursery.start_soon(listens, relay.backend, heard["backend"])
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            relay.end(1012)
            await relay.over.wait()
            assert relay.ending is not None
            codes.add(relay.ending.code)
    assert codes == {1012}


async def test_it_ends_by_its_deadline_whatever_the_peers_do(autojump_clock: MockClock) -> None:
    """Two peers that babble for ever, and never listen."""
    async with relaying() as relay, trio.open_nursery() as nursery:
        nursery.start_soon(_floods_politely, relay.client)
        nursery.start_soon(_floods_politely, relay.backend)
        await trio.sleep(3)
        relay.end(1001)
        began = trio.current_time()
        await relay.ends("gateway", 1001)
        assert trio.current_time() - began <= 5
        nursery.cancel_scope.cancel()


async def _floods_politely(peer: Peer) -> None:
    while True:
        try:
            await peer.says(b"x" * 1000)
        except trio.BrokenResourceError:
            return
        await trio.sleep(0.01)
