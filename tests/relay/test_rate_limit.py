"""Limiters in a relay: what is dropped, what waits, what ends the connection, in every driver."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.conversation import KEY, frame
from support.flows import flow
from support.rate_limits import (
    backend_leaves,
    both_hang_up,
    client_has_left,
    client_leaves,
    gateway_ends,
    numbered,
    says,
    sender_is_held_up,
    two_of_seven_wait,
)
from support.rate_limits import rate_limits as made
from support.relays import Peer, inspected_memory, memory, relaying, tcp
from trio_gw.errors import Side
from trio_gw.wire import frames

if TYPE_CHECKING:
    from trio_gw.relay.rate_limit import RateLimit

DRIVERS = pytest.mark.parametrize("streams", [memory, inspected_memory])
PER = 60


def rate_limits(limit: int = 5, action: Any = "drop", **more: Any) -> dict[Side, RateLimit]:
    begin = trio.current_time()

    def clock() -> float:
        """Tell the time by the clock of the test; a window begins now."""
        return 1_700_000_040.0 + trio.current_time() - begin

    return made(clock, limit, action, per=PER, count="both", **more)


@DRIVERS
async def test_what_is_over_the_limit_is_dropped(
    streams: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with relaying(streams, rate_limits=rate_limits(), limit=9999) as relay:
        for _ in range(3):
            begun = trio.current_time()
            await relay.client.sends(says(relay.client, *numbered(9)))
            await relay.client.sends(frame(frames.PING, b"still here", key=KEY))
            for payload in numbered(5):
                await relay.backend.hears(payload)
            assert (await relay.backend.gets()).payload == b"still here"
            await relay.backend.sends(says(relay.backend, b"nor this way"))
            await relay.backend.sends(frame(frames.PONG, b"either"))
            assert (await relay.client.gets()).payload == b"either"
            await trio.sleep(PER - (trio.current_time() - begun))
        await client_leaves(relay)


@DRIVERS
async def test_what_waits_is_not_lost(streams: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with relaying(streams, rate_limits=rate_limits(action="pause"), limit=9999) as relay:
        begun = trio.current_time()
        await relay.client.sends(says(relay.client, *numbered(17)))
        for number, payload in enumerate(numbered(17)):
            await relay.backend.hears(payload)
            assert (trio.current_time() - begun) // PER == number // 5
        await client_leaves(relay)


@pytest.mark.parametrize("octets", [False, True], ids=["events", "bytes"])
@pytest.mark.parametrize("seed", range(10))
async def test_whatever_waits_comes_whole_and_in_its_order(
    seed: int, octets: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """In fragments, with control frames between them, in pieces of any size, both ways at once."""
    dice = random.Random(seed)
    client, backend = (flow(dice, key, 1 << 60, octets=octets, rsv=0x40) for key in (KEY, None))
    both = rate_limits(dice.choice((2, 7, 30)) * (20_000 if octets else 1), "pause", octets=octets)

    async def talks(peer: Peer, said: bytes) -> None:
        at = 0
        while at < len(said):
            size = dice.choice((1, 7, 500, 20_000, 200_000))
            await peer.sends(said[at : at + size])
            await trio.sleep(dice.choice((0, 0, 0.1, PER)) if size > 500 else 0)
            at += size

    async def listens(peer: Peer, expected: list[tuple[int, bytes]]) -> None:
        for first, payload in expected:
            seen = await peer.gets()
            assert (seen.first, seen.payload) == (first, payload)

    options: dict[str, Any] = {"close_timeout": 1e6, "limit": 1e7, "rsv": 0x40}
    async with relaying(memory, rate_limits=both, **options) as relay:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talks, relay.client, client.said)
            nursery.start_soon(talks, relay.backend, backend.said)
            nursery.start_soon(listens, relay.client, backend.arrives)
            nursery.start_soon(listens, relay.backend, client.arrives)
        await client_leaves(relay)
        assert [rate_limit.policer.dropped for rate_limit in both.values()] == [0, 0]


@DRIVERS
async def test_a_close_behind_what_waits_comes_in_its_place(
    streams: Any, autojump_clock: trio.testing.MockClock
) -> None:
    """The window ends while there is time to close."""
    async with relaying(
        streams, rate_limits=rate_limits(action="pause"), close_timeout=PER + 1, limit=9999
    ) as relay:
        await two_of_seven_wait(relay)
        await relay.client.closes(1000)
        for payload in numbered(7)[5:]:
            await relay.backend.hears(payload)
        await client_has_left(relay)
        assert relay.rate_limits[Side.CLIENT].policer.dropped == 0


@DRIVERS
@pytest.mark.parametrize("more", [0, 2])
async def test_a_close_does_not_wait_for_a_window_that_ends_too_late(
    more: int, streams: Any, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[int] = []
    both = rate_limits(action="pause")
    both[Side.CLIENT].limiter.listeners += (lambda _, count: heard.append(count),)  # type: ignore[attr-defined]
    async with relaying(streams, rate_limits=both, limit=9999) as relay:
        await two_of_seven_wait(relay)
        assert heard == [1]
        begun = trio.current_time()
        await relay.client.sends(says(relay.client, *numbered(more)))
        await relay.client.closes(1000)
        await client_has_left(relay)
        assert trio.current_time() - begun < 1
        assert both[Side.CLIENT].policer.dropped == 2 + more
        assert sum(heard) == 2 + more, "each that did not pass as it came, once"
        assert not relay.rate_limits[Side.CLIENT].paused


@DRIVERS
async def test_who_vanishes_has_what_waits_said_while_there_is_time(
    streams: Any, autojump_clock: trio.testing.MockClock
) -> None:
    """Twelve windows would be needed, and there is time for one."""
    async with relaying(
        streams, rate_limits=rate_limits(action="pause"), close_timeout=PER + 1, limit=9999
    ) as relay:
        await relay.client.sends(says(relay.client, *numbered(60)))
        await relay.client.stops_sending()
        for payload in numbered(10):
            await relay.backend.hears(payload)
        await relay.backend.is_told(1001)
        await relay.client.is_told(1002)
        assert relay.rate_limits[Side.CLIENT].policer.dropped == 50
        await relay.backend.closes(1001)
        await both_hang_up(relay)
        await relay.ends("client", 1006)


async def test_what_breaks_the_rules_is_not_made_good_by_what_comes_behind_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Read ahead while something waited, and forgotten with what it was behind."""
    async with relaying(inspected_memory, rate_limits=rate_limits(1, "pause"), limit=9999) as relay:
        await relay.client.sends(
            says(relay.client, b"first") + frame(frames.TEXT, b"\xff", key=KEY)
        )
        await relay.backend.hears(b"first")
        await relay.client.sends(says(relay.client, b"never"))
        for peer in (relay.client, relay.backend):
            await peer.is_told(1007)
            await peer.closes(1007)
            await peer.hangs_up()
        await relay.ends("client", 1007)


@DRIVERS
async def test_a_side_that_leaves_does_not_wait_for_a_window(
    streams: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with relaying(streams, rate_limits=rate_limits(action="pause"), limit=9999) as relay:
        await two_of_seven_wait(relay)
        begun = trio.current_time()
        await backend_leaves(relay)
        assert trio.current_time() - begun < 1


@DRIVERS
async def test_the_gateway_ends_a_connection_that_waits(
    streams: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with relaying(streams, rate_limits=rate_limits(action="pause"), limit=9999) as relay:
        await two_of_seven_wait(relay)
        begun = trio.current_time()
        relay.end(1012, "stopping")
        await gateway_ends(relay, 1012, "stopping")
        assert trio.current_time() - begun < 1
        assert not relay.rate_limits[Side.CLIENT].paused


async def test_one_that_is_to_end_before_it_begins_does_not_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    early = frame(frames.BINARY, b"1", key=KEY) + frame(frames.BINARY, b"2", key=KEY)
    options: dict[str, Any] = {"early": (early, b""), "end_first": 1012, "limit": 9999}
    async with relaying(memory, rate_limits=rate_limits(1, "pause"), **options) as relay:
        begun = trio.current_time()
        await relay.client.is_told(1012)
        await relay.backend.is_told(1012)
        assert trio.current_time() - begun < 1
        await relay.client.closes(1012)
        await relay.backend.closes(1012)
        await both_hang_up(relay)


async def test_cancelled_while_something_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with relaying(memory, rate_limits=rate_limits(action="pause"), limit=9999) as relay:
        await two_of_seven_wait(relay)
        relay.scope.cancel()
        await relay.over.wait()
        assert not relay.rate_limits[Side.CLIENT].paused


async def test_who_waits_holds_up_the_sender() -> None:
    """Over real sockets: no more is read than the chunk that waits."""
    async with relaying(tcp, rate_limits=rate_limits(action="pause", limit=1)) as relay:
        await sender_is_held_up(relay)
        await relay.client.hangs_up()
        relay.scope.cancel()


@DRIVERS
async def test_a_limit_that_closes(streams: Any) -> None:
    async with relaying(streams, rate_limits=rate_limits(action="close")) as relay:
        await relay.client.sends(says(relay.client, *numbered(9)))
        for payload in numbered(5):
            await relay.backend.hears(payload)
        await gateway_ends(relay)


async def test_a_client_is_told_at_once_in_the_middle_of_its_message() -> None:
    async with relaying(memory, rate_limits=rate_limits(1, "close")) as relay:
        await relay.client.sends(says(relay.client, b"1") + says(relay.client, bytes(99))[:50])
        await relay.backend.hears(b"1")
        await relay.client.is_told(1008)
        await relay.client.sends(says(relay.client, bytes(99))[50:])
        await relay.backend.is_told(1008)
        await relay.client.closes(1008)
        await relay.backend.closes(1008)
        await both_hang_up(relay)
        await relay.ends("gateway", 1008)


async def test_lost_in_the_middle_of_a_dropped_message() -> None:
    """Nothing of it was sent, so there is a place for a Close frame."""
    async with relaying(memory, rate_limits=rate_limits(1)) as relay:
        await relay.client.sends(says(relay.client, b"1") + says(relay.client, bytes(99))[:50])
        await relay.backend.hears(b"1")
        await relay.client.hangs_up()
        await relay.backend.is_told(1001, "client connection lost")
        await relay.backend.closes(1001)
        await relay.backend.hangs_up()
        await relay.ends("client", 1006)
