"""The work for one connection in one turn is bounded, whatever its bytes are.

These tests count the scanned frames, and the questions to a limiter, in one round of the epoll set,
or before other tasks run. Nothing here depends on the speed of the machine.
"""

from __future__ import annotations

import contextlib
import random
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.conversation import KEY, close, frame
from support.rate_limits import both_hang_up, rate_limits
from support.relays import fast_path, inspected, memory, relaying, tcp
from trio_gw.errors import Side
from trio_gw.relay import runs
from trio_gw.relay.epoll_loop import LIMITED_FRAMES_PER_TURN, Poller
from trio_gw.relay.lane import FRAMES_PER_TURN, Lane
from trio_gw.relay.pair import Pair
from trio_gw.relay.sizes import CHUNK
from trio_gw.relay.tunnel import Tunnels
from trio_gw.wire.frames import BINARY, CONTINUATION, PING, PONG, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.relays import MakePair
    from trio_gw.relay.rate_limit import RateLimit

ATTACKERS = 10
WINDOW = 1000


def filled(*frames: bytes) -> bytes:
    """Repeat these frames until a chunk is full."""
    once = b"".join(frames)
    return once * (CHUNK // len(once))


def floods(key: bytes | None) -> dict[str, bytes]:
    """Chunks of so many frames as can be, of all kinds."""
    dice = random.Random(7)
    sizes = [frame(BINARY, bytes(dice.randrange(4)), key=key) for _ in range(997)]
    return {
        "pings": filled(frame(PING, key=key)),
        "pongs": filled(frame(PONG, b"p", key=key)),
        "sizes that differ": filled(*sizes),
        "fragments": filled(
            frame(TEXT, fin=False, key=key),
            *[frame(CONTINUATION, b"x" * (n % 2), fin=False, key=key) for n in range(200)],
            frame(CONTINUATION, key=key),
        ),
        "pings between fragments": filled(
            frame(TEXT, fin=False, key=key), frame(PING, key=key), frame(CONTINUATION, key=key)
        ),
        "rows that end soon": filled(*[frame(TEXT, b"", key=key)] * 6, frame(TEXT, b"x", key=key)),
        "empty messages": filled(frame(BINARY, key=key)),
    }


NAMES = tuple(floods(None))
VARIED = tuple(name for name in NAMES if name != "empty messages")  # those are rows
WAYS = pytest.mark.parametrize("key", [KEY, None], ids=["publish", "subscribe"])


def frames_in(data: bytes) -> int:
    """Count whole frames, none of them longer than 125 octets, as they stand in the data."""
    count = at = 0
    while at < len(data):
        at += 2 + (data[at + 1] & 0x7F) + (4 if data[at + 1] & 0x80 else 0)
        count += 1
    return count


# --- lanes ----------------------------------------------------------------------------------


def account(lane: Lane) -> tuple[object, ...]:
    """All that a lane tells in the end."""
    violation = lane.violation and lane.violation.what
    counted = lane.frames, lane.messages, lane.octets, lane.extra, lane.payload
    return counted, lane.need, lane.held, lane.rest, lane.over, lane.finished, lane.close, violation


@WAYS
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("most", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("name", NAMES)
def test_looked_at_little_by_little_it_is_the_same(
    name: str, most: int, counted: bool, key: bytes | None
) -> None:
    flood = floods(key)[name][: CHUNK // 8] if most < 100 else floods(key)[name]
    for end in (b"", close(1000, key=key) + b"behind", b"\xff", frame(TEXT, bytes(300), key=key)):
        stream = flood + end[: len(end) - 1 if len(end) > 100 else len(end)]
        whole, parts = Lane(masked=bool(key)), Lane(masked=bool(key))
        expected = bytes(whole.feed(stream))
        passed = bytes(parts.feed(stream, most, counted=counted))
        while parts.rest:
            assert parts.octets + len(parts.rest) == len(stream)
            passed += bytes(parts.feed(b"", most, counted=counted))
        assert passed == expected
        assert account(parts) == account(whole)


@WAYS
@pytest.mark.parametrize("name", NAMES)
def test_no_more_is_looked_at_than_may_be(name: str, key: bytes | None) -> None:
    for most, counted in ((FRAMES_PER_TURN, False), (LIMITED_FRAMES_PER_TURN, True)):
        lane, data = Lane(masked=bool(key)), floods(key)[name]
        looked = 0
        while data or lane.rest:
            passed = bytes(lane.feed(data, most, counted=counted))
            data = b""
            if counted or name in VARIED:
                rows = 1 if counted else 7  # of which the shortest rows here consist
                assert frames_in(passed) <= rows * most
            assert frames_in(passed) <= runs.SHARE * most + runs.MOST
            looked += len(passed)
        assert looked == len(floods(key)[name])


def test_a_close_of_the_gateways_own_comes_before_what_is_left() -> None:
    lane = Lane(masked=True)
    said = frame(PING, key=KEY) * 50 + close(1001, key=KEY)
    passed = bytes(lane.feed(said, 10))
    assert passed == frame(PING, key=KEY) * 10
    lane.end(1012, "stopping")
    assert lane.flush()[0] == 0x88
    while lane.rest or lane.held:
        assert bytes(lane.feed(b"", 10)) == b""
    assert lane.over
    assert lane.close == (1001, "")
    assert lane.octets == len(said)


# --- the fast path, round by round ---------------------------------------------------------------


class Riding(Pair):
    """A pair of socket pairs: `client` and `backend` are the far ends."""

    __slots__ = ("held", "lanes", "peers", "rate_limits", "released")

    def __init__(self, both: dict[Side, RateLimit] | None = None) -> None:
        near, far = socket.socketpair(), socket.socketpair()
        self.peers, self.held = (near[0], far[0]), (near[1], far[1])
        for sock in (*near, *far):
            sock.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        self.lanes = Lane(masked=True), Lane(masked=False)
        self.released = False
        self.rate_limits = both or {}
        for rate_limit, lane in zip(self.rate_limits.values(), self.lanes, strict=False):
            rate_limit.bind(lane, self.lanes)
        super().__init__(
            (near[1].fileno(), far[1].fileno()),
            self.lanes,
            (b"", b""),
            (self.rate_limits.get(Side.CLIENT), self.rate_limits.get(Side.BACKEND)),
        )

    def on_release(self) -> None:
        self.released = True

    def close(self) -> None:
        for sock in (*self.peers, *self.held):
            sock.close()


@pytest.fixture
def make() -> Iterator[Callable[..., tuple[Poller, list[Riding]]]]:
    """Give what puts pairs on an epoll set of their own."""
    poller, made = Poller(), []

    def pairs(count: int, clock: Callable[[], float] | None = None, *limit: Any) -> Any:
        for _ in range(count):
            both = None
            if clock is not None:
                both = rate_limits(clock, *limit, per=WINDOW, count="each")
            made.append(Riding(both))
            poller.register(made[-1])
        return poller, made

    yield pairs
    for pair in made:
        poller.unregister(pair)
        pair.close()
    poller.close()


def drain(sock: socket.socket) -> bytes:
    """Read all that is there."""
    data = b""
    while True:
        try:
            data += sock.recv(1 << 20)
        except BlockingIOError:
            return data


@WAYS
@pytest.mark.parametrize("name", VARIED)
def test_floods_leave_every_round_to_the_others(
    name: str, key: bytes | None, make: Callable[..., tuple[Poller, list[Riding]]]
) -> None:
    poller, pairs = make(ATTACKERS + 1)
    flood, side = floods(key)[name], 0 if key else 1
    for pair in pairs[:-1]:
        pair.peers[side].send(flood)
    neighbour, hello = pairs[-1].peers, frame(TEXT, b"hello", key=key)
    said = [b""] * ATTACKERS
    rounds = most = 0
    while any(len(data) < len(flood) for data in said):
        neighbour[side].send(hello)
        poller.poll_once(256)
        assert drain(neighbour[1 - side]) == hello, "it is served in the same round"
        rounds += 1
        new = [drain(pair.peers[1 - side]) for pair in pairs[:-1]]
        said = [old + data for old, data in zip(said, new, strict=True)]
        if rounds > 1:
            most = max(most, sum(map(frames_in, new)))
        assert max(map(frames_in, new)) <= 7 * FRAMES_PER_TURN
    assert said == [flood] * ATTACKERS
    assert most <= 7 * 4 * FRAMES_PER_TURN, "a few go on in a round, however many have to"
    assert not any(pair.released for pair in pairs)
    assert not poller.pending
    assert poller.poll_once(256) == 0, "and then there is nothing to do"


class Asked:
    """A limiter that counts how often it is asked."""

    def __init__(self, limiter: Any) -> None:
        self.limiter = limiter
        self.count = 0

    def take(self, octets: int, now: float, again: bool = False) -> Any:
        self.count += 1
        return self.limiter.take(octets, now, again)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.limiter, name)


@pytest.mark.parametrize("limit", [0, 1, 1000, 5000])
def test_what_is_dropped_leaves_every_round_to_the_others(
    limit: int, make: Callable[..., tuple[Poller, list[Riding]]]
) -> None:
    poller, pairs = make(ATTACKERS, lambda: 10.0 * WINDOW, max(limit, 1))
    limiters = []
    for pair in pairs:
        rate_limit = pair.rate_limits[Side.CLIENT]
        if not limit:
            assert rate_limit.limiter.take(0, 10.0 * WINDOW) is None  # all of it is used
        limiters.append(Asked(rate_limit.limiter))
        spied: Any = limiters[-1]
        rate_limit.limiter = rate_limit.policer._limiter = spied
    make(1)
    neighbour, hello = pairs[-1].peers, frame(TEXT, b"hello", key=KEY)
    flood = filled(frame(BINARY, key=KEY))
    count = len(flood) // 6
    for pair in pairs[:-1]:
        pair.peers[0].send(flood)
    passed, before, after = [b""] * ATTACKERS, 0, 0
    heard = [0] * ATTACKERS

    def hears(at: int, _: object, messages: int) -> None:
        heard[at] += messages

    for at, spy in enumerate(limiters):
        spy.limiter.listeners += (partial(hears, at),)
    for number in range(100_000):
        if number and not poller.pending:
            break
        neighbour[0].send(hello)
        poller.poll_once(256)
        assert drain(neighbour[1]) == hello
        asked = sum(limiter.count for limiter in limiters)
        turns = 4 if number else ATTACKERS
        assert asked - before <= LIMITED_FRAMES_PER_TURN * turns
        after = asked - before if number else 0
        before = asked
        for at, pair in enumerate(pairs[:-1]):
            passed[at] += drain(pair.peers[1])
    assert after <= 4, "a verdict is used for all that is judged in a turn"
    assert [len(data) // 6 for data in passed] == [limit] * ATTACKERS
    assert heard == [count - limit] * ATTACKERS, "each that was dropped is heard of"
    assert [pair.rate_limits[Side.CLIENT].policer.dropped for pair in pairs[:-1]] == [
        count - limit
    ] * ATTACKERS


def test_a_peer_that_stalls_keeps_no_more_than_a_chunk(
    make: Callable[..., tuple[Poller, list[Riding]]],
) -> None:
    poller, (pair,) = make(1)
    for sock in (pair.held[1], pair.peers[1]):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 4096)
    flood, sent = floods(KEY)["sizes that differ"] * 3, 0
    got = b""
    while len(got) < len(flood):
        if sent < len(flood):
            with contextlib.suppress(BlockingIOError):
                sent += pair.peers[0].send(flood[sent:])
        for _ in range(300):
            poller.poll_once(256)
            assert len(pair.lanes[0].rest) + len(pair.backend.unsent) <= CHUNK + 131
        assert not poller.pending, "who cannot go on is not tried again and again"
        got += drain(pair.peers[1])
    assert got == flood


# --- tasks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [tcp, memory, inspected], ids=["tcp", "memory", "messages"])
@pytest.mark.parametrize("limit", [0, 20])
async def test_tasks_that_carry_floods_give_others_their_turn(
    streams: MakePair, limit: int
) -> None:
    both = rate_limits(lambda: 10.0 * WINDOW, limit, per=WINDOW, count="each") if limit else None
    flood = floods(KEY)["pings between fragments"]
    async with relaying(streams, rate_limits=both, close_timeout=60) as relay:
        steps: list[int] = []

        async def watch() -> None:
            before = 0
            while True:
                now = relay.publish.octets
                steps.append(now - before)
                before = now
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            nursery.start_soon(relay.client.sends, flood + close(1000, key=KEY))
            seen = await relay.backend.gets()
            while seen.opcode != 8:
                seen = await relay.backend.gets()
            nursery.cancel_scope.cancel()
        # Both sides of the clock may look in one turn of the scheduler.
        assert max(steps) <= 2 * 6 * (LIMITED_FRAMES_PER_TURN if limit else FRAMES_PER_TURN) + 8
        await relay.backend.closes(1000)
        await relay.client.is_told(1000)
        await both_hang_up(relay)
        await relay.ends("client", 1000)


async def test_what_comes_behind_the_request_is_looked_at_little_by_little() -> None:
    early = floods(KEY)["pings"]
    async with relaying(fast_path, early=(early, b"")) as relay:
        for _ in range(len(early) // 6):
            assert (await relay.backend.gets()).opcode == PING
        relay.scope.cancel()


async def test_a_poller_that_a_task_waits_for_goes_on_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where Trio's own wait cannot be had, what is left is not told of by the descriptor."""

    class Refused:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        async def run(self) -> None:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr("trio_gw.relay.tunnel.TrioWait", Refused)
    flood = floods(KEY)["pings"]
    async with relaying(fast_path) as relay:
        assert isinstance(relay.tunnels, Tunnels)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.client.sends, flood)
            for _ in range(len(flood) // 6):
                assert (await relay.backend.gets()).opcode == PING
        relay.scope.cancel()
