"""Limiters on the fast path: they let whole chunks pass, and count every message.

`test_rate_limit` tests what all drivers have in common. Here sockets and time are real.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.conversation import KEY, frame, split_frames
from support.flows import flow
from support.rate_limits import (
    backend_leaves,
    client_has_left,
    client_leaves,
    gateway_ends,
    numbered,
    says,
    sender_is_held_up,
    two_of_seven_wait,
)
from support.rate_limits import rate_limits as made
from support.relays import Peer, fast_path, fast_path_tls, relaying
from trio_gw.errors import Side
from trio_gw.wire import frames

if TYPE_CHECKING:
    from support.relays import MakePair
    from trio_gw.relay.rate_limit import RateLimit

FAST_PATHS = pytest.mark.parametrize("streams", [fast_path, fast_path_tls])
WINDOW = 1000.0  # no test takes that long: of its own clock, which stands still


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 10 * WINDOW

    def __call__(self) -> float:
        return self.now


def rate_limits(clock: Any, limit: int, action: Any = "drop", **more: Any) -> dict[Side, RateLimit]:
    return made(clock, limit, action, **{"per": int(WINDOW), "count": "each", **more})


async def _talks(peer: Peer, dice: random.Random, said: bytes) -> None:
    at = 0
    while at < len(said):
        size = dice.choice((1, 7, 500, 20_000, 200_000))
        await peer.sends(said[at : at + size])
        at += size


async def _listens(peer: Peer, expected: list[tuple[int, bytes]]) -> None:
    for first, payload in expected:
        seen = await peer.gets()
        assert (seen.first, seen.payload) == (first, payload)


@pytest.mark.parametrize("octets", [False, True], ids=["events", "bytes"])
@pytest.mark.parametrize("seed", range(25))
async def test_exactly_what_fits_arrives_and_nothing_is_cut(seed: int, octets: bool) -> None:
    dice = random.Random(seed)
    limit = dice.randrange(1, 100_000 if octets else 60)
    clock = Clock()
    client, backend = (flow(dice, key, limit, octets=octets, rsv=0x40) for key in (KEY, None))
    both = rate_limits(clock, limit, octets=octets)
    pair = fast_path if seed % 5 else fast_path_tls
    async with relaying(pair, rate_limits=both, close_timeout=60, rsv=0x40) as relay:
        for window in range(2):
            clock.now = (10 + window) * WINDOW
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_talks, relay.client, random.Random(seed), client.said)
                nursery.start_soon(_talks, relay.backend, random.Random(~seed), backend.said)
                nursery.start_soon(_listens, relay.client, backend.arrives)
                nursery.start_soon(_listens, relay.backend, client.arrives)
            await relay.took(relay.client, len(client.said) * (window + 1))
            await relay.took(relay.backend, len(backend.said) * (window + 1))
        assert len(relay.tunnels or ()) == 1, "it has never left the fast path"
        assert both[Side.CLIENT].policer.dropped == 2 * client.dropped
        assert both[Side.BACKEND].policer.dropped == 2 * backend.dropped
        await client_leaves(relay)


@FAST_PATHS
async def test_what_waits_is_not_lost_and_holds_up_nobody_else(streams: MakePair) -> None:
    both = rate_limits(time.time, 5, "pause", per=1)
    async with relaying(streams, rate_limits=both) as relay:
        begun = int(time.time())
        await relay.client.sends(says(relay.client, *numbered(17)))
        for number, payload in enumerate(numbered(17)):
            await relay.backend.hears(payload)
            assert time.time() >= begun + number // 5, "no more than five in a window"
            if payload == b"4":
                await relay.backend.sends(frame(frames.PING, b"are you there?"))
                assert (await relay.client.gets()).payload == b"are you there?"
        assert not both[Side.CLIENT].paused
        await client_leaves(relay)


async def test_both_directions_wait_and_go_on() -> None:
    async with relaying(fast_path, rate_limits=rate_limits(time.time, 1, "pause", per=1)) as relay:
        await relay.client.sends(says(relay.client, *numbered(3)))
        await relay.backend.sends(says(relay.backend, *numbered(3)))
        for payload in numbered(3):
            await relay.backend.hears(payload)
            await relay.client.hears(payload)
        await client_leaves(relay)


@FAST_PATHS
async def test_a_side_that_leaves_does_not_wait_for_a_window(streams: MakePair) -> None:
    async with relaying(
        streams, rate_limits=rate_limits(Clock(), 5, "pause"), close_timeout=60
    ) as relay:
        await two_of_seven_wait(relay)
        await backend_leaves(relay)


@FAST_PATHS
async def test_the_gateway_ends_a_connection_that_waits(streams: MakePair) -> None:
    async with relaying(
        streams, rate_limits=rate_limits(Clock(), 5, "pause"), close_timeout=60
    ) as relay:
        await two_of_seven_wait(relay)
        relay.end(1012, "stopping")
        await gateway_ends(relay, 1012, "stopping")
        assert not relay.rate_limits[Side.CLIENT].paused


@FAST_PATHS
async def test_cancelled_while_something_waits(streams: MakePair) -> None:
    async with relaying(streams, rate_limits=rate_limits(Clock(), 5, "pause")) as relay:
        await two_of_seven_wait(relay)
        relay.scope.cancel()


async def test_a_backend_that_vanishes_while_something_waits() -> None:
    async with relaying(
        fast_path, rate_limits=rate_limits(Clock(), 5, "pause"), close_timeout=60
    ) as relay:
        await two_of_seven_wait(relay)
        await relay.backend.resets()
        await relay.client.is_told(1011)
        await relay.client.closes(1011)
        await relay.client.hangs_up()
        await relay.ends("backend", 1006)


@FAST_PATHS
async def test_a_close_does_not_wait_for_a_window_that_ends_too_late(streams: MakePair) -> None:
    async with relaying(
        streams, rate_limits=rate_limits(Clock(), 5, "pause"), close_timeout=60
    ) as relay:
        await two_of_seven_wait(relay)
        await client_leaves(relay)
        assert relay.rate_limits[Side.CLIENT].policer.dropped == 2


async def test_a_client_that_is_reset_while_something_waits() -> None:
    async with relaying(
        fast_path, rate_limits=rate_limits(Clock(), 5, "pause"), close_timeout=60
    ) as relay:
        await two_of_seven_wait(relay)
        await relay.client.resets()
        await relay.backend.is_told(1001)
        await relay.backend.closes(1001)
        await relay.backend.hangs_up()
        await relay.ends("client", 1006)


@FAST_PATHS
@pytest.mark.parametrize("last", [b"", frame(frames.CLOSE, b"\x03\xe8", key=KEY)])
async def test_a_client_that_hangs_up_behind_more_than_is_read_ahead(
    last: bytes, streams: MakePair
) -> None:
    async with relaying(
        streams, rate_limits=rate_limits(Clock(), 5, "pause"), close_timeout=1
    ) as relay:
        await two_of_seven_wait(relay)
        await relay.client.sends(says(relay.client, *[bytes(1000)] * 120) + last)
        await relay.client.hangs_up()
        await relay.backend.is_told(1000 if last else 1001)
        await relay.backend.closes(1000)
        await relay.backend.hangs_up()
        await relay.ends("client", 1000 if last else 1006)
        assert relay.rate_limits[Side.CLIENT].policer.dropped == 122


async def test_a_close_behind_what_waits_comes_in_its_place() -> None:
    async with relaying(fast_path, rate_limits=rate_limits(time.time, 5, "pause", per=1)) as relay:
        said = says(relay.client, *numbered(7))
        await relay.client.sends(said + frame(frames.CLOSE, b"\x03\xe8", key=KEY))
        for payload in numbered(7):
            await relay.backend.hears(payload)
        await client_has_left(relay)


async def test_early_bytes_pay_and_wait_too() -> None:
    early = says(Peer(None, KEY), *numbered(3)), says(Peer(None, None), *numbered(3))  # type: ignore[arg-type]
    async with relaying(
        fast_path, rate_limits=rate_limits(time.time, 2, "pause", per=1), early=early
    ) as relay:
        for payload in numbered(3):
            await relay.backend.hears(payload)
            await relay.client.hears(payload)
        await client_leaves(relay)


async def test_who_waits_holds_up_the_sender() -> None:
    async with relaying(fast_path, rate_limits=rate_limits(Clock(), 1, "pause")) as relay:
        await sender_is_held_up(relay)
        assert len(relay.rate_limits[Side.CLIENT].waiting) <= 65536
        relay.scope.cancel()


@FAST_PATHS
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_limit_that_closes(streams: MakePair, at_once: bool) -> None:
    async with relaying(
        streams, rate_limits=rate_limits(Clock(), 5, "close"), close_timeout=60
    ) as relay:
        for payload in numbered(5):
            await relay.client.says(payload)
            if not at_once:
                await relay.backend.hears(payload)
        more = says(relay.client, *numbered(4))
        await relay.client.sends(more + frame(frames.PING, b"last", key=KEY))
        if at_once:
            for payload in numbered(5):
                await relay.backend.hears(payload)
        assert (await relay.backend.gets()).payload == b"last"
        await gateway_ends(relay)


async def test_after_a_full_window_chunks_are_let_pass_at_once_again() -> None:
    clock = Clock()
    both = rate_limits(clock, 3)
    asked: list[int] = []
    async with relaying(fast_path, rate_limits=both) as relay:
        await relay.client.sends(says(relay.client, *numbered(9)))
        for payload in numbered(3):
            await relay.backend.hears(payload)
        await relay.took(relay.client, relay.publish.octets)
        assert both[Side.CLIENT].busy
        clock.now += WINDOW
        both[Side.CLIENT].limiter = _Spy(both[Side.CLIENT].limiter, asked)
        for payload in numbered(2):
            await relay.client.says(payload)
            await relay.backend.hears(payload)
        assert not both[Side.CLIENT].busy
        assert asked == [1], "the first message was judged by itself, the second by its chunk"
        await client_leaves(relay)


class _Spy:
    """A limiter that notes what it is asked for at once."""

    def __init__(self, limiter: Any, asked: list[int]) -> None:
        self.limiter = limiter
        self.asked = asked

    def fits(self, messages: int, octets: int, now: float) -> bool:
        self.asked.append(messages)
        return bool(self.limiter.fits(messages, octets, now))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.limiter, name)


def test_split_frames_sees_what_the_test_compares() -> None:
    """The fragments' first bytes, RSV1 included, are what arrives."""
    made = flow(random.Random(3), None, 1000, octets=False, rsv=0x40)
    seen, rest = split_frames(made.said)
    assert rest == b""
    assert [(one.first, one.payload) for one in seen] == made.arrives
