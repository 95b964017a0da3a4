"""Policies of a control plane: tiers that are not known at start, and that change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_gw.config.tiers import Tier
from trio_gw.guard.counter import CounterTable
from trio_gw.guard.rate_limits import Level, RateLimits
from trio_gw.guard.window_blocks import SPARE, USUAL, WindowBlocks, width
from trio_gw.supervision.shared_memory import Counters

if TYPE_CHECKING:
    from trio_gw.guard.limiter import DirectionLimiter
    from trio_gw.guard.rate_limits import SessionLimiters

pytestmark = pytest.mark.both_forms

START = 1_699_920_000.0  # the start of a day, and of 30 days
SETTINGS = {"Gold": Tier("Gold", 3), "Ten": Tier("Ten", 10, per=600)}


def made(processes: int = 1) -> list[RateLimits]:
    counters = Counters(processes, width(SETTINGS, policies=True))
    return [
        RateLimits(SETTINGS, lambda _: None, counters, index, policies=True)
        for index in range(processes)
    ]


def session(limits: RateLimits, key: str = "k", level: str = "subscription") -> SessionLimiters:
    found = limits.limiters([Level(level, "Gold", key)], START)
    assert found is not None
    return found


def passing(limiter: DirectionLimiter, now: float = START, octets: int = 1) -> int:
    return sum(limiter.take(octets, now) is None for _ in range(100))


def policy(limit: int, per: int = 60, **more: object) -> tuple[str, Tier]:
    return "subscription", Tier("Gold", limit, per=per, **more)  # type: ignore[arg-type]


def test_a_policy_goes_before_the_tier_of_its_name_at_its_level() -> None:
    (limits,) = made()
    limits.use([policy(5)])
    assert passing(session(limits).publish) == 5
    assert passing(session(limits, level="application").publish) == 3
    limits.use([])
    assert passing(session(limits, "other").publish) == 3


@pytest.mark.parametrize("per", [*USUAL, 600, 7, 300, 7200, 365 * 86400])
def test_windows_of_any_length_are_counted_together(per: int) -> None:
    first, second = made(2)
    for limits in (first, second):
        limits.use([policy(5, per)])
    begin = START // per * per
    one, two = session(first), session(second)
    for window in range(3):
        now = begin + window * per
        passed = sum(
            limiter.publish.take(1, now + step * per / 20) is None
            for step in range(20)
            for limiter in (one, two)
        )
        assert passed == 5


def test_a_spare_block_is_taken_once_for_all_processes() -> None:
    counters = Counters(2, width(SETTINGS, policies=True))
    first, second = (
        WindowBlocks(CounterTable(counters, index), SETTINGS, policies=True) for index in range(2)
    )
    lengths = [7, 11, 13, 17][:SPARE]
    places = [(first if length % 3 else second).find(length) for length in lengths]
    assert None not in places
    assert len({*places, *map(first.find, (*USUAL, 600))}) == SPARE + len(USUAL) + 1
    for blocks in (first, second, WindowBlocks(CounterTable(counters, 0), SETTINGS, policies=True)):
        assert [blocks.find(length) for length in lengths] == places
        assert blocks.find(19) is None
        assert (blocks.nearest(19), blocks.nearest(601), blocks.nearest(10**9)) == (
            60,
            3600,
            30 * 86400,
        )


def test_without_a_spare_block_the_rate_is_kept() -> None:
    (limits,) = made()
    limits.use(("subscription", Tier(f"P{per}", 1, per=per)) for per in (7, 11, 13, 17))
    limits.use([policy(2, 120), ("application", Tier("Gold", 5, per=60 * 86400))])
    assert limits.tier("subscription", "Gold") == Tier("Gold", 10, per=600)
    assert limits.tier("application", "Gold") == Tier("Gold", 2, per=30 * 86400)
    assert passing(session(limits).publish) == 10


def test_a_process_without_control_plane_has_no_more_blocks() -> None:
    assert width(SETTINGS) < width(SETTINGS, policies=True)
    blocks = WindowBlocks(CounterTable(Counters(1, width(SETTINGS)), 0), SETTINGS)
    assert blocks.find(60) == 0
    assert blocks.find(1) is None


def test_a_changed_limit_counts_for_open_sessions_at_once() -> None:
    (limits,) = made()
    limits.use([policy(5)])
    one = session(limits)
    assert passing(one.publish) == 5
    limits.use([policy(7)])
    assert passing(one.publish) == 2
    limits.use([policy(1)])
    assert passing(one.publish) == 0
    limits.use([policy(7, stop_on_quota=False)])
    assert passing(one.publish) == 100
    limits.use([policy(1)])
    assert passing(one.publish, START + 60) == 1
    limits.use([])
    assert passing(one.publish, START + 60) == 2, "the tier of the settings, with 3"


def test_another_window_or_unit_counts_for_new_sessions() -> None:
    (limits,) = made()
    limits.use([policy(5)])
    old = session(limits)
    limits.use([policy(8, 3600)])
    assert passing(old.publish) == 5
    assert passing(session(limits).publish) == 8
    limits.use([policy(4, octets=True)])
    assert passing(session(limits).publish, octets=2) == 2
    assert passing(old.publish, START + 60) == 5


def test_a_lease_ends_when_its_limit_changes() -> None:
    (limits,) = made()
    limits.use([policy(64 * 100)])
    limiter = session(limits).publish
    holder = Holder()
    assert limiter.fits(1, 1, START)
    assert limiter.lease(holder, START)
    assert holder.messages == 99
    holder.used = 9
    limits.use([policy(20)])
    assert holder.messages == 0, "it was reclaimed"
    assert passing(limiter) == 10, "1 before the lease, 9 of the lease"


class Holder:
    """Uses some messages of a lease."""

    def __init__(self) -> None:
        self.messages = self.used = 0

    def acquire_lease(self, messages: int, octets: int, until: float) -> None:
        self.messages = messages

    def release_lease(self) -> tuple[int, int]:
        self.messages = 0
        return self.used, 0
