"""Decisions that suspend limiters, on the fast path: nothing passes until they are over."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from support.conversation import KEY, frame, split_frames
from trio_gw.config.tiers import Tier
from trio_gw.guard.decisions import Decided
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

pytestmark = pytest.mark.both_forms

NOW = 1_700_000_000.0
PLAN = Tier("Plan")
COUNTED = Tier("Counted", 1_000_000, per=3600)


class Asked:
    """A limiter that counts how often it is asked about chunks."""

    def __init__(self, limiter: Any) -> None:
        self.limiter = limiter
        self.chunks = 0

    def fits(self, messages: int, octets: int, now: float) -> bool:
        self.chunks += 1
        return bool(self.limiter.fits(messages, octets, now))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.limiter, name)


class Suspendable(Pair):
    """A client and a backend on the fast path, whose limiters decisions may suspend."""

    def __init__(self, poller: Poller, *tiers: Tier, processes: int = 1) -> None:
        known = {tier.name: tier for tier in tiers}
        made = RateLimits(known, lambda _: None, Counters(processes, width(known)))
        levels = [Level("API", name, "key") for name in known]
        limiters = made.limiters(levels, NOW, suspendable=True)
        assert limiters is not None
        self.limiters, self.now, self.poller = limiters, NOW, poller
        self.refused: list[tuple[str, int]] = []
        limiters.add_listeners(self._refused, self._refused)
        self.asked = Asked(limiters.publish)
        near, far = socket.socketpair(), socket.socketpair()
        for one in (*near, *far):
            one.setblocking(False)
        self.peers = near[0], far[0]
        lanes = Lane(masked=True), Lane(masked=False)
        both = (
            RateLimit(self.asked, lambda: self.now, masked=True),
            RateLimit(limiters.subscribe, lambda: self.now, masked=False),
        )
        for rate_limit, lane in zip(both, lanes, strict=True):
            rate_limit.bind(lane, lanes)
        self.policers = tuple(one.policer for one in both)
        super().__init__((near[1].detach(), far[1].detach()), lanes, (b"", b""), both)
        poller.register(self)

    def _refused(self, cause: Any, messages: int) -> None:
        self.refused.append((cause.level, messages))

    def on_release(self) -> None:
        raise AssertionError("nothing has ended")

    def suspend(self, *levels: tuple[str, float]) -> None:
        decided = tuple(Decided(level, PLAN, self.now + seconds) for level, seconds in levels)
        self.limiters.suspend(decided)

    def send(self, side: int, *sent: bytes) -> list[bytes]:
        """Send as client (0) or backend (1) in one write; returns the payloads that arrive."""
        self.peers[side].send(b"".join(sent))
        while self.poller.poll_once(64):
            pass
        try:
            received = self.peers[1 - side].recv(1 << 20)
        except BlockingIOError:
            return []
        return [one.payload for one in split_frames(received)[0]]

    def close(self) -> None:
        self.poller.unregister(self)
        for peer in self.peers:
            peer.close()
        for end in (self.client, self.backend):
            socket.socket(fileno=end.fd).close()
        self.unlink()


@contextlib.contextmanager
def joined(*tiers: Tier, processes: int = 1) -> Iterator[Suspendable]:
    poller = Poller()
    pair = Suspendable(poller, *tiers, processes=processes)
    try:
        yield pair
    finally:
        pair.close()
        poller.close()


def text(payload: bytes, *, fin: bool = True, opcode: int = frames.TEXT) -> bytes:
    return frame(opcode, payload, fin=fin, key=KEY)


FORMS = pytest.mark.parametrize(
    ("tiers", "processes"), [((), 1), ((), 3), ((COUNTED,), 1), ((COUNTED,), 3)]
)


@FORMS
def test_nothing_passes_until_the_last_decision_is_over(
    tiers: tuple[Tier, ...], processes: int
) -> None:
    with joined(*tiers, processes=processes) as pair:
        assert pair.send(0, text(b"a")) == [b"a"]
        pair.suspend(("subscription", 10), ("application", 20))
        assert pair.send(0, text(b"b"), text(b"c")) == []
        assert pair.send(1, frame(frames.BINARY, b"d")) == []
        pair.now = NOW + 15
        assert pair.send(0, text(b"e")) == []
        assert sum(count for _, count in pair.refused) == 4
        assert {level for level, _ in pair.refused[:-1]} == {"subscription"}
        assert pair.refused[-1][0] == "application"
        pair.now = NOW + 20
        assert pair.send(0, text(b"f")) == [b"f"]
        assert pair.send(1, frame(frames.BINARY, b"g")) == [b"g"]


@FORMS
def test_a_decision_that_is_withdrawn_lets_messages_pass(
    tiers: tuple[Tier, ...], processes: int
) -> None:
    with joined(*tiers, processes=processes) as pair:
        pair.suspend(("API", 10))
        assert pair.send(0, text(b"a")) == []
        pair.suspend()
        assert pair.send(0, text(b"b")) == [b"b"]


@FORMS
def test_a_message_that_has_begun_passes_and_the_next_does_not(
    tiers: tuple[Tier, ...], processes: int
) -> None:
    with joined(*tiers, processes=processes) as pair:
        assert pair.send(0, text(b"a", fin=False)) == [b"a"]
        pair.suspend(("API", 10))
        more = text(b"b", fin=False, opcode=frames.CONTINUATION)
        assert pair.send(0, more) == [b"b"]  # a chunk in which no message begins
        assert pair.send(0, text(b"c", opcode=frames.CONTINUATION), text(b"d")) == [b"c"]
        assert pair.send(0, text(b"e")) == []


@FORMS
def test_control_frames_pass(tiers: tuple[Tier, ...], processes: int) -> None:
    with joined(*tiers, processes=processes) as pair:
        pair.suspend(("API", 10))
        assert pair.send(0, text(b"a"), text(b"p", opcode=frames.PING), text(b"b")) == [b"p"]


def test_without_counters_a_limiter_is_asked_once() -> None:
    with joined() as pair:
        for number in range(100):
            assert pair.send(0, text(b"%d" % number)) == [b"%d" % number]
        assert pair.asked.chunks == 1
        pair.suspend(("API", 10))
        assert pair.send(0, text(b"x")) == []
        pair.now = NOW + 10
        for number in range(100):
            assert pair.send(0, text(b"%d" % number)) == [b"%d" % number]
        assert pair.asked.chunks <= 5


def test_what_is_used_is_counted_when_a_decision_ends_a_lease() -> None:
    with joined(Tier("T", 1100, per=3600, count="publish")) as pair:
        for number in range(1000):
            assert pair.send(0, text(b"%d" % number)) == [b"%d" % number]
            if number % 100 == 50:
                pair.suspend(("API", 10))
                assert pair.send(0, text(b"x")) == []
                pair.suspend()
        found = [pair.send(0, text(b"y")) for _ in range(200)]
        assert found.count([b"y"]) == 100


def test_dropped_frames_are_reported_with_their_sizes() -> None:
    with joined() as pair:
        sizes: list[int] = []
        pair.policers[0].on_drop = sizes.append
        pair.suspend(("API", 10))
        part = text(b"22", fin=False)
        rest = text(b"333", opcode=frames.CONTINUATION)
        assert pair.send(0, text(b"1"), part, text(b"p", opcode=frames.PING), rest) == [b"p"]
        assert sizes == [1, 2, 3]
