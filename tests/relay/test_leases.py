"""Leases of limiters on the fast path, for sessions that share counters.

They are compared with a count of every message. All sockets are real, but the clock is not, so the
order in which messages are judged is known.
"""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING, Any

import pytest

from support.conversation import KEY, frame, split_frames
from trio_gw.config.tiers import Tier
from trio_gw.guard.rate_limits import Level, RateLimits
from trio_gw.guard.window_blocks import width
from trio_gw.relay.epoll_loop import Poller
from trio_gw.relay.lane import Lane
from trio_gw.relay.pair import Pair
from trio_gw.relay.rate_limit import RateLimit
from trio_gw.supervision.shared_memory import Counters
from trio_gw.wire import frames

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 1_700_000_000.0 // 6000 * 6000
MOST = 1 << 16  # bytes that are said at once: what a socket's buffer takes


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Asked:
    """A limiter that counts how often it is asked."""

    def __init__(self, limiter: Any) -> None:
        self.limiter = limiter
        self.chunks = self.messages = 0

    def fits(self, messages: int, octets: int, now: float) -> bool:
        self.chunks += 1
        return bool(self.limiter.fits(messages, octets, now))

    def take(self, octets: int, now: float, again: bool = False) -> Any:
        self.messages += 1
        return self.limiter.take(octets, now, again)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.limiter, name)


class Session(Pair):
    """A client and a backend whom the test plays, joined on the fast path."""

    __slots__ = ("answers", "clock", "levels", "limiters", "peers", "poller", "released", "unread")

    def __init__(self, poller: Poller, limits: RateLimits, clock: Clock, *levels: Level) -> None:
        limiters = limits.limiters(levels, clock.now)
        assert limiters is not None
        self.poller, self.levels, self.clock = poller, levels, clock
        self.limiters = Asked(limiters.publish), Asked(limiters.subscribe)
        near, far = socket.socketpair(), socket.socketpair()
        for one in (*near, *far):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MOST)
        self.peers = near[0], far[0]
        self.unread = [b"", b""]
        self.released = False
        lanes = Lane(masked=True), Lane(masked=False)
        rate_limits = tuple(
            RateLimit(limiter, clock, masked=masked)
            for limiter, masked in zip(self.limiters, (True, False), strict=True)
        )
        for rate_limit, lane in zip(rate_limits, lanes, strict=True):
            rate_limit.bind(lane, lanes)
        super().__init__((near[1].detach(), far[1].detach()), lanes, (b"", b""), rate_limits)  # type: ignore[arg-type]
        poller.register(self)

    def on_release(self) -> None:
        raise AssertionError("nothing has ended")

    def says(self, side: int, data: bytes) -> list[bytes]:
        """Say it as client (0) or backend (1), in one write; returns whose payloads arrive."""
        assert self.peers[side].send(data) == len(data)
        while self.poller.poll_once(64):
            pass
        with contextlib.suppress(BlockingIOError):
            while True:
                self.unread[1 - side] += self.peers[1 - side].recv(1 << 20)
        seen, self.unread[1 - side] = split_frames(self.unread[1 - side])
        return [one.payload for one in seen]

    def leaves(self) -> None:
        self.released = True
        self.poller.unregister(self)
        for peer in self.peers:
            peer.close()
        for end in (self.client, self.backend):
            socket.socket(fileno=end.fd).close()
        self.unlink()


@contextlib.contextmanager
def fast_path() -> Iterator[Poller]:
    poller = Poller()
    try:
        yield poller
    finally:
        for pair in poller.pairs():
            assert isinstance(pair, Session)
            pair.leaves()
        poller.close()


def limits(*tiers: Tier) -> RateLimits:
    known = {tier.name: tier for tier in tiers}
    return RateLimits(known, lambda _: None, Counters(1, width(known)))


class Truth:
    """What should pass, message by message."""

    def __init__(self, *tiers: Tier) -> None:
        self.tiers = {tier.name: tier for tier in tiers}
        self.used: dict[tuple[Level, int, int], int] = {}

    def _room(self, tier: Tier, level: Level, side: int, now: float) -> int:
        window = int(now // tier.per)
        before = self.used.get((level, side, window - 1), 0)
        burst = max(0, tier.burst - max(0, before - tier.limit))
        return tier.limit + burst - self.used.get((level, side, window), 0)

    def passes(self, session: Session, side: int, sizes: list[int], now: float) -> bool:
        """Judge a message of fragments of these sizes, and count it."""
        named = [(self.tiers[level.tier], level) for level in session.levels]
        counted = [(tier, level, 0 if tier.count == "both" else side) for tier, level in named]
        if any(self._room(tier, level, way, now) <= 0 for tier, level, way in counted):
            return False
        for tier, level, way in counted:
            key = level, way, int(now // tier.per)
            self.used[key] = self.used.get(key, 0) + (sum(sizes) if tier.octets else 1)
        return True


def message(payloads: list[bytes], key: bytes | None) -> bytes:
    """Build a message of one or more fragments, with a Ping before each further one."""
    data = b""
    for at, payload in enumerate(payloads):
        opcode = frames.CONTINUATION if at else frames.BINARY
        data += frame(frames.PING, b"", key=key) if at else b""
        data += frame(opcode, payload, fin=at == len(payloads) - 1, key=key)
    return data


@pytest.mark.parametrize("seed", range(24))
def test_loans_let_pass_what_counting_every_message_does(seed: int) -> None:
    dice = random.Random(seed)
    shared = Tier(
        "shared", dice.randrange(1100, 1700), per=600, count=dice.choice(("each", "both"))
    )
    octets = Tier("octets", dice.randrange(270_000, 400_000), octets=True, per=300)
    burst = Tier(
        "burst", dice.randrange(1100, 1500), per=400, burst=dice.randrange(1, 900), count="both"
    )
    tiers = [shared, octets, burst][: 1 + seed % 3] if seed % 4 else [burst]
    truth, clock, made = Truth(*tiers), Clock(), limits(*tiers)
    with fast_path() as poller:
        sessions: list[Session] = []
        borrowed = refused = 0
        for step in range(150):
            if len(sessions) < 3 or dice.random() < 0.02:
                keys = [dice.choice("ab") if tier is octets else "all" for tier in tiers]
                levels = [
                    Level(tier.name, tier.name, key) for tier, key in zip(tiers, keys, strict=True)
                ]
                sessions.append(Session(poller, made, clock, *levels))
            if step < 110 and dice.random() < 0.05:
                clock.now += dice.choice((1, 50, 150, 199, 600))
            if dice.random() < 0.02:
                sessions.pop(dice.randrange(len(sessions))).leaves()
                continue
            session, side = dice.choice(sessions), dice.randrange(2)
            data, expected = b"", []
            for _ in range(dice.choice((1, 1, 20, 200)) if step < 110 else 200):
                sizes = [dice.choice((0, 1, 40, 125, 400))] * dice.choice((1, 1, 1, 3))
                more = message([dice.randbytes(size) for size in sizes], None if side else KEY)
                if len(data) + len(more) > MOST:
                    break
                data += more
                parts = [one.payload for one in split_frames(more)[0]]
                if truth.passes(session, side, sizes, clock.now):
                    expected += parts
                else:
                    refused += 1
                    expected += [b""] * (len(sizes) - 1)  # the Pings
            assert session.says(side, data) == expected
            end = session.backend if side else session.client
            borrowed += end.free_until > 0
        assert borrowed > 0
        assert refused > 0


def test_far_from_the_limit_few_chunks_are_asked_about() -> None:
    tier = Tier("t", 1_000_000, per=600)
    with fast_path() as poller:
        session = Session(poller, limits(tier), Clock(), Level("t", "t", "k"))
        for number in range(3000):
            payload = b"%d" % number
            assert session.says(0, frame(frames.BINARY, payload, key=KEY)) == [payload]
        assert (session.limiters[0].chunks, session.limiters[0].messages) == (3, 0)


def test_a_loan_of_messages_is_used_up_with_the_last_of_them() -> None:
    with fast_path() as poller:
        session = Session(poller, limits(Tier("t", 1 + 64 * 20)), Clock(), Level("t", "t", "k"))
        for number in range(1, 50):
            one = b"%d" % number
            assert session.says(0, frame(frames.TEXT, one, key=KEY)) == [one]
            # Lent are 20 of the 1,280 that are left after the first, then 19 of 1,260. One less is
            # used of each, lest it is the beginning of a message that has not ended.
            assert session.limiters[0].chunks == 1 + (number > 20) + (number > 39) + (number > 57)


def test_a_loan_of_octets_is_used_up_by_what_is_announced() -> None:
    tier = Tier("t", 64 * 5000, octets=True)
    with fast_path() as poller:
        session = Session(poller, limits(tier), Clock(), Level("t", "t", "k"))
        limiter = session.limiters[1]
        assert session.says(1, frame(frames.TEXT, b"x")) == [b"x"]
        assert session.says(1, frame(frames.TEXT, b"x" * 2000)) == [b"x" * 2000]
        assert limiter.chunks == 1
        begun = frame(frames.TEXT, b"x" * 4000)[:10]
        assert session.says(1, begun) == []
        assert limiter.chunks == 2, "more is announced than was lent"
        assert session.says(1, b"x" * 3994) == [b"x" * 4000]
        assert limiter.chunks == 2, "and counted already"


def test_what_one_session_has_not_used_another_may_use() -> None:
    """Idle sessions hold loans; the last message of a window passes nevertheless."""
    tier, clock = Tier("t", 20_000, per=600), Clock()
    made, level = limits(tier), Level("t", "t", "k")
    with fast_path() as poller:
        idle = [Session(poller, made, clock, level) for _ in range(30)]
        for session in idle:
            assert session.says(1, frame(frames.TEXT, b"x")) == [b"x"]
        assert sum(session.backend.free_until > 0 for session in idle) == 30
        busy = Session(poller, made, clock, level)
        passed = 0
        for _ in range(25):
            passed += len(busy.says(1, frame(frames.TEXT, b"y") * 1000))
        assert passed == 20_000 - 30
        assert not any(session.backend.free_until for session in idle)


def test_a_loan_ends_with_its_window() -> None:
    """What passed in a loan counts where it passed, what comes after it in the next window."""
    short, long = Tier("short", 5000, per=10), Tier("long", 6000, per=100)
    clock, made = Clock(), limits(short, long)
    levels = Level("short", "short", "k"), Level("long", "long", "k")
    with fast_path() as poller:
        session = Session(poller, made, clock, *levels)
        one = frame(frames.TEXT, b"x", key=KEY)
        assert len(session.says(0, one)) == 1
        assert len(session.says(0, one * 70)) == 70
        assert session.limiters[0].chunks == 1
        clock.now += 10
        passed = sum(len(session.says(0, one * 500)) for _ in range(14))
        assert passed == 5000
        clock.now += 10
        passed += sum(len(session.says(0, one * 500)) for _ in range(14))
        assert passed == 6000 - 71


def test_a_session_that_leaves_gives_back_what_it_borrowed() -> None:
    tier, clock = Tier("t", 10_000, per=600), Clock()
    made, level = limits(tier), Level("t", "t", "k")
    one = frame(frames.TEXT, b"x", key=KEY)
    with fast_path() as poller:
        for _ in range(50):
            session = Session(poller, made, clock, level)
            assert len(session.says(0, one * 3)) == 3
            assert session.client.free_until > 0
            session.leaves()
        del session
        assert len(made) == 0, "nothing keeps the counter"
        limiters = made.limiters([level], clock.now)
        assert limiters is not None
        assert limiters.publish.fits(10_000 - 150, 0, clock.now)
        assert not limiters.publish.fits(1, 0, clock.now)


def test_a_clock_that_is_set_back_ends_no_loan_too_late() -> None:
    """A loan is for a window; in the time before that it still counts, and counts once."""
    tier, clock = Tier("t", 5000, per=10), Clock()
    one = frame(frames.TEXT, b"x", key=KEY)
    with fast_path() as poller:
        session = Session(poller, limits(tier), clock, Level("t", "t", "k"))
        assert len(session.says(0, one)) == 1
        clock.now -= 3600
        assert len(session.says(0, one * 50)) == 50
        clock.now += 3600
        passed = sum(len(session.says(0, one * 500)) for _ in range(14))
        assert passed == 5000 - 51
